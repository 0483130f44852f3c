"""`absorb forget`: remove users, list who is forgotten, and allow a user again."""

import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from builder.cli.catalogue import RECOVER
from builder.cli.options import ARTIFACTS, CACHE, RUNS, Artifacts, CacheUrl, Runs
from builder.cli.progress_bar import console
from builder.publish.cache import CacheClient, cache_errors, connect_cache
from models.command_line import EXIT_CODES
from models.contract.errors import RequestError
from models.contract.vocabulary import check_id

if TYPE_CHECKING:
    from builder.forget.report import Line, Report
    from builder.forget.run import Places

app = typer.Typer()
INCOMPLETE = 1
"""Exit code where something is to be done again."""


@app.command(
    rich_help_panel=RECOVER,
    epilog=f"Example: absorb forget 4711 --cache redis://127.0.0.1:6379/0\n\n{EXIT_CODES}",
)
def forget(  # noqa: PLR0913 - options of a command
    users: Annotated[list[str] | None, typer.Argument(help="ids of users")] = None,
    lists: Annotated[
        bool, typer.Option("--list", help="show the tombstones: hashes of ids, and times")
    ] = False,
    allow_again: Annotated[
        bool,
        typer.Option(
            "--allow-again",
            help="remove the tombstones, so that builds and events may bring the users back",
        ),
    ] = False,
    captured: Annotated[
        list[Path] | None,
        typer.Option(help="file of captured requests, or a service's ABSORB_SLOW_DIR; repeatable"),
    ] = None,
    folder: Annotated[
        list[Path] | None,
        typer.Option(help="run folder or prepared folder outside of --runs; repeatable"),
    ] = None,
    no_rewrite: Annotated[
        bool,
        typer.Option(
            "--no-rewrite",
            help="leave the append-only file and snapshots of the server as they are",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the report as JSON")] = False,
    runs: Runs = RUNS,
    artifacts: Artifacts = ARTIFACTS,
    cache: CacheUrl = CACHE,
) -> None:
    """Remove users from the cache, from run folders and captured requests, and keep them out of later builds.

    Prints what was removed where, what is to be done again (exit code 1), and what cannot be removed here: weights
    trained on the users, raw logs, backups. Running it twice does no harm. The output names users by SHA-256 of
    their ids.
    """
    ids = _checked(users or [])
    if bool(ids) == lists:
        raise typer.BadParameter("expected ids of users, or --list", param_hint="USERS")
    with connect_cache(cache) as client:
        if lists:
            _list(client)
        elif allow_again:
            _allow(client, ids, cache, runs)
        else:
            from builder.forget.run import Places

            places = Places(cache, runs, artifacts, folder or (), captured or (), not no_rewrite)
            _forget(client, ids, places, as_json)


def _checked(users: Sequence[str]) -> list[str]:
    try:
        return [check_id("USERS", user) for user in dict.fromkeys(users)]
    except RequestError as error:
        raise typer.BadParameter(str(error), param_hint="USERS") from error


def _forget(client: CacheClient, users: Sequence[str], places: "Places", as_json: bool) -> None:
    from builder.forget.report import in_words
    from builder.forget.run import forget as forget_users

    reports = forget_users(client, users, places)
    if as_json:
        typer.echo(json.dumps([report.to_dict() for report in reports], indent=1))
    for report in () if as_json else reports:
        console.print(in_words(report), highlight=False, soft_wrap=True)
        _print_report(report)
    if any(report.to_do for report in reports):
        raise typer.Exit(INCOMPLETE)


def _print_report(report: "Report") -> None:
    from builder.forget.report import sections

    for heading, lines in sections(report):
        if not lines:
            continue
        if console.is_terminal:
            console.print(_table(heading, lines))
        else:
            typer.echo("\n".join((heading, *map(_plain_row, lines))))


def _plain_row(line: "Line") -> str:
    """A row for files and pipes: tabs between columns, and no breaks in keys, so that they can be copied."""
    return "\t".join(
        (line.where, line.what, "" if line.number is None else f"{line.number}")
    ).rstrip()


def _table(heading: str, lines: "Sequence[Line]") -> Table:
    table = Table(title=heading, title_justify="left", title_style="bold")
    table.add_column("where", overflow="fold")
    table.add_column("what", overflow="fold")
    table.add_column("number", justify="right")
    for line in lines:
        number = "" if line.number is None else f"{line.number:,}"
        table.add_row(escape(line.where), escape(line.what), number)
    return table


def _list(client: CacheClient) -> None:
    from models.live.tombstones import read_tombstones

    with cache_errors(client):
        tombstones = read_tombstones(client)
    for name, time_s in sorted(tombstones.times.items(), key=lambda pair: pair[1]):
        typer.echo(f"{name}  {datetime.fromtimestamp(time_s, UTC):%Y-%m-%d %H:%M:%S} UTC")
    typer.echo(f"{len(tombstones.times)} forgotten users, {len(tombstones.lifted)} allowed again")


def _allow(client: CacheClient, users: Sequence[str], cache: str, runs: Path) -> None:
    from builder.publish.forgotten import tombstones_of_cache
    from models.live.keys import tombstone
    from models.live.tombstones import lift

    for user in users:
        with cache_errors(client):
            is_lifted = lift(client, user, int(time.time()))
        state = (
            "is allowed again: the next build reads the user's events"
            if is_lifted
            else "was not forgotten"
        )
        typer.echo(f"user {tombstone(user)[:12]}…: {state}")
    tombstones_of_cache(client, cache, runs)  # the copy must not bring them back
