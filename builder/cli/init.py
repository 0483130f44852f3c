"""`absorb init` on the command line: a first recipe for a log."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from builder.cli.catalogue import INSPECT
from builder.cli.progress_bar import console
from models.command_line import EXIT_CODES

app = typer.Typer()
Column = str | None


@app.command(
    rich_help_panel=INSPECT,
    epilog=f"Example: absorb init events.parquet --items products.parquet --out shop.toml\n\n{EXIT_CODES}",
)
def init(  # noqa: PLR0913 - options of a command
    log: Annotated[Path, typer.Argument(help="Parquet or CSV file, glob or folder of events")],
    out: Annotated[Path, typer.Option(help="recipe to write")] = Path("recipe.toml"),
    items: Annotated[Path | None, typer.Option(help="table with one row per item")] = None,
    users: Annotated[Path | None, typer.Option(help="table with one row per user")] = None,
    user: Annotated[Column, typer.Option(help="column of the user's id")] = None,
    item: Annotated[Column, typer.Option(help="column of the item's id")] = None,
    time: Annotated[Column, typer.Option(help='column of the time; "": there is none')] = None,
    label: Annotated[Column, typer.Option(help="column of labels 0 and 1, or of ratings")] = None,
    positive_from: Annotated[
        float | None,
        typer.Option(help="smallest rating that is a positive; without it, you are asked"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="overwrite the recipe")] = False,
) -> None:
    """Look at a log and write a recipe for it, with the reason beside each key.

    It guesses which column is the user, the item, the time, the label or the rating, which columns can be fields, the
    unit of the times, the length of histories, the split, the negatives and the size of the model; and it says what it
    left out, and why. The log is read once with what it guessed, so that a recipe that it writes can be ingested.
    """
    from builder.propose.roles import Given
    from builder.propose.run import Options, propose

    if out.exists() and not force:
        raise typer.BadParameter(
            f"got {out}, which exists; --force overwrites it", param_hint="--out"
        )
    options = Options(Given(user, item, time, label), items, users, positive_from)
    found = propose(log, out, options, _ask)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(found.text, encoding="utf-8")
    facts = found.facts
    counts = f"{facts.events:,} events of {facts.users:,} users on {facts.items:,} items"
    console.print(f"[green]✓[/] {out}: {counts}", highlight=False, soft_wrap=True)
    for note in found.notes:
        console.print(f"  - {note}", highlight=False, soft_wrap=True, markup=False)
    console.print("Read it, then:", highlight=False)
    for command in ("audit", "build"):
        console.print(f"  absorb {command} {out}", highlight=False, soft_wrap=True)


def _ask(question: str, suggested: float) -> float:
    """The answer of a person at a terminal; elsewhere the suggestion, which the notes name."""
    if not sys.stdin.isatty():
        return suggested
    return float(typer.prompt(question, default=suggested, type=float))
