"""`absorb peers`: install other servers, measure all rows in rounds, write the table and the plot."""

import json
import math
import shutil
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from loadtest.choices import some_of
from loadtest.machine import commit, describe_cpu, describe_machine
from loadtest.peers.bench import (
    FULL,
    QUICK,
    Effort,
    chosen_workers,
    engine_of,
    read_figures,
    run_rounds,
)
from loadtest.peers.environments import PeerError, install, version_of
from loadtest.peers.paths import JOB, PUBLISHED, RESULTS
from loadtest.peers.queries import SLATES, read_queries, write_job, write_queries
from loadtest.peers.report import Measurement, as_json, page, plot
from loadtest.peers.servers import ABSORBS, AUTO, BARE, BARES, MODEL, PEERS, Server
from loadtest.peers.verdicts import Row
from models.command_line import run_app
from models.contract.embedded_cache import resolve_cache_url
from models.contract.errors import AbsorbError
from service.settings import read_settings
from service.tools.published import read_published

MAX_USERS = 1_000_000
STAMP = RESULTS / "stamp.json"
PROBLEMS = RESULTS / "problems.json"
NAMES = [server.name for server in (*ABSORBS, *PEERS)]
QUICK_HELP = f"{QUICK.rounds} rounds, {QUICK.seconds:g} s a cell, no trial of numbers of workers: under ten minutes"
EXIT_CODES = (
    "Exit codes: 0 measured, whatever the verdicts are, 2 it could not be run, or wrong usage."
)

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(epilog=f"Example: absorb peers --only absorb --only fastapi --quick\n\n{EXIT_CODES}")
def peers(
    only: Annotated[
        list[str] | None,
        typer.Option(
            help=f"server to measure, by default all: {', '.join(NAMES)}", callback=some_of(NAMES)
        ),
    ] = None,
    is_quick: Annotated[bool, typer.Option("--quick", help=QUICK_HELP)] = False,
    rounds: Annotated[
        int | None, typer.Option(min=1, help=f"rounds, by default {FULL.rounds}")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(help=f"seconds of each cell, by default {FULL.seconds:g}")
    ] = None,
    is_install: Annotated[
        bool, typer.Option("--install", help="make the environments, and end")
    ] = False,
    is_report: Annotated[
        bool, typer.Option("--report", help="write the table again, and end")
    ] = False,
    is_fresh: Annotated[bool, typer.Option("--fresh", help="delete earlier figures first")] = False,
    out: Annotated[Path, typer.Option(help="folder of the table and the plot")] = PUBLISHED,
) -> None:
    """Measure the service beside ONNX Runtime alone and six other servers of the same model."""
    signal.signal(signal.SIGTERM, _stop)
    chosen = tuple(s for s in (*ABSORBS, *PEERS) if not only or s.name in only)
    problems = {} if is_report else _install(chosen)
    if is_install:
        return
    try:
        if not is_report:
            effort = _effort(is_quick, rounds, seconds)
            _prepare(effort, is_fresh)
            ready = tuple(server for server in chosen if server.name not in problems)
            probe = read_queries()[SLATES[0]][0]
            problems |= run_rounds(ready, effort, probe, Console().print)
            PROBLEMS.write_text(json.dumps(problems, indent=1))
        words = [f"--only {name}" for name in only or ()]
        words += ["--quick"] if is_quick else []
        words += [f"--rounds {rounds}"] if rounds else []
        words += [f"--seconds {seconds:g}"] if seconds else []
        command = " ".join(["absorb peers", *words])
        _write(out, json.loads(PROBLEMS.read_text()), command)
    except (AbsorbError, PeerError, FileNotFoundError) as error:
        typer.echo(f"peers: {error}", err=True)
        raise typer.Exit(2) from error


def _stop(*_: object) -> None:
    """End as with Ctrl-C: the server that runs is stopped on the way."""
    sys.exit(143)


def _install(servers: tuple[Server, ...]) -> dict[str, str]:
    problems = {}
    for server in servers:
        try:
            install(server)
        except PeerError as error:
            problems[server.name] = str(error)
            Console().print(f"{server.title}: {error}")
    return problems


def _effort(is_quick: bool, rounds: int | None, seconds: float | None) -> Effort:
    base = QUICK if is_quick else FULL
    seconds = seconds or base.seconds
    trial_s = min(base.trial_s, seconds)
    limit_s = math.inf if rounds else base.limit_s
    return Effort(rounds or base.rounds, seconds, base.warm_up_s, trial_s, limit_s)


def _prepare(effort: Effort, is_fresh: bool) -> None:
    """Write what is served and requested; delete results of other models, machines or settings."""
    settings = read_settings()
    try:
        published = read_published(settings, MODEL, MAX_USERS)
    except AbsorbError as error:
        raise PeerError(f"{error}; run `make demo` first") from error
    cache_url = resolve_cache_url(settings.cache_url)
    write_job(published, cache_url, settings.artifact_dir)
    stamp = {
        **json.loads(JOB.read_text()),
        "effort": [effort.seconds, effort.warm_up_s, effort.trial_s],
        "machine": describe_machine(),
        "slates": SLATES,
    }
    text = json.dumps(stamp, indent=1)
    if is_fresh or not STAMP.exists() or STAMP.read_text() != text:
        shutil.rmtree(RESULTS, ignore_errors=True)
        RESULTS.mkdir(parents=True)
        STAMP.write_text(text)
        PROBLEMS.write_text("{}")
    write_queries(published)


def _write(out: Path, problems: dict[str, str], command: str) -> None:
    measurement = _measurement(problems, command)
    out.mkdir(parents=True, exist_ok=True)
    text = page(measurement)
    (out / "peers.md").write_text(text)
    (out / "peers.json").write_text(as_json(measurement))
    plot(measurement, out / "peers.png")
    Console().print(text, markup=False, soft_wrap=True)


def _measurement(problems: dict[str, str], command: str) -> Measurement:
    bares = {
        name: Row(name, title, False, read_figures(name), problems.get(name, ""))
        for name, title in BARES.items()
    }
    measured = [one for one in (*ABSORBS, *PEERS) if one.name in problems or _has_figures(one)]
    left_out = [one.title for one in (*ABSORBS, *PEERS) if one not in measured]
    facts = {
        **_facts(bares[BARE]),
        "Command": f"`{command}`",
        "Not measured": ", ".join(left_out) or "none",
    }
    return Measurement(
        describe_cpu(),
        facts,
        {name: row for name, row in bares.items() if row.rounds or row.problem},
        [row for one in ABSORBS if one in measured for row in _rows(one, problems)],
        [row for one in PEERS if one in measured for row in _rows(one, problems)],
    )


def _has_figures(server: Server) -> bool:
    return any(read_figures(route.name) for route in server.routes)


def _rows(server: Server, problems: dict[str, str]) -> list[Row]:
    problem, engine = problems.get(server.name, ""), engine_of(server)
    rows = []
    for route in server.routes:
        title = server.title if route is server.routes[0] else f"{server.title}, {route.wire}"
        if server.engine == AUTO and engine:
            title += f" (auto: {engine})"
        if len(server.workers) > 1:
            title += f", {_workers(server)}"
        figures = read_figures(route.name)
        rows.append(Row(route.name, title, server.is_general, figures, problem, engine))
    return rows


def _workers(server: Server) -> str:
    number, _ = chosen_workers(server)
    return {0: "in process", 1: "1 worker"}.get(number, f"{number} workers")


def _facts(bare: Row) -> dict[str, str]:
    stamp: dict[str, Any] = json.loads(STAMP.read_text())
    tried = []
    for server in PEERS:
        if by_workers := chosen_workers(server)[1].items():
            tried.append(f"{server.name} " + ", ".join(f"{n}: {x:,.0f}" for n, x in by_workers))
    seconds, warm_up_s, _ = stamp["effort"]
    return {
        "Measured": f"{datetime.now(UTC):%Y-%m-%d} at {commit()}, {len(bare.rounds)} interleaved rounds, "
        f"{seconds:g} s for each cell after {warm_up_s:g} s of warm-up",
        "Machine": stamp["machine"],
        "Model": f"{stamp['model']}, artifact {stamp['artifact_id']}, generation {stamp['generation']}",
        "Versions": ", ".join(f"{version_of(server)}" for server in (ABSORBS[0], *PEERS)),
        "Workers tried (answers/s at 8 at a time, geometric mean over B)": "; ".join(tried)
        or "none: the largest number, one for each core",
    }


if __name__ == "__main__":
    run_app(app, "python -m loadtest.peers")
