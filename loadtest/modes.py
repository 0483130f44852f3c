"""`absorb modes`: one process with threads beside a process per core, and joined slates beside single ones.

The same requests, in rounds, on the model published as `lrea` in `ABSORB_CACHE_URL`: a closed loop over connections
that stay open. Writes `loadtest/results/modes.md`. About three minutes on two cores.
"""

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.console import Console

from loadtest.machine import describe_machine
from loadtest.peers.__main__ import MAX_USERS
from loadtest.peers.cells import Cell, Measured, measured
from loadtest.peers.driver import HOST, load
from loadtest.peers.environments import PeerError
from loadtest.peers.processes import running
from loadtest.peers.queries import Query, read_queries, write_job, write_queries
from loadtest.peers.servers import ABSORBS, MODEL, Server
from loadtest.peers.verdicts import spread
from loadtest.peers.wire_formats import http_request
from models.command_line import run_app
from models.contract.embedded_cache import resolve_cache_url
from models.contract.errors import AbsorbError
from service.settings import read_settings
from service.tools.published import read_published

CELLS = tuple(Cell(*pair) for pair in product((1, 8, 32), (20, 200, 1000)))
OUT = Path("loadtest/results/modes.md")
ABSORB = ABSORBS[0]
JOINED = "16"
"""Most requests in one run of the graph."""
EXIT_CODES = "Exit codes: 0 measured, 2 it could not be run, or wrong usage."

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def modes() -> dict[str, Server]:
    """Title -> how the service is started. Its last number of workers is its number of processes."""
    cores = len(os.sched_getaffinity(0))
    joined = {**ABSORB.environment, "ABSORB_BATCH_MAX_REQUESTS": JOINED}
    single = replace(ABSORB, workers=(1,))
    return {
        "one process, a thread per core": single,
        "a process per core": replace(ABSORB, workers=(cores,)),
        f"one process, up to {JOINED} slates joined": replace(single, environment=joined),
    }


@app.command(epilog=f"Example: absorb modes --rounds 2 --seconds 1.2\n\n{EXIT_CODES}")
def measure(
    rounds: Annotated[int, typer.Option(min=1, help="number of rounds")] = 3,
    seconds: Annotated[float, typer.Option(help="seconds of each cell")] = 1.5,
    out: Annotated[Path, typer.Option(help="file of the table")] = OUT,
) -> None:
    """Measure one process with threads, a process per core, and joined slates, on the model published as `lrea`."""
    try:
        facts = _prepare()
        results = _run_rounds(rounds, seconds)
    except (AbsorbError, PeerError, ExceptionGroup) as error:
        typer.echo(f"modes: {error}", err=True)
        raise typer.Exit(2) from error
    header = [
        "# One process or several, slates joined or not",
        "",
        f"- Command: `absorb modes --rounds {rounds} --seconds {seconds:g}`",
        *facts,
        "- Interleaved rounds; medians, in brackets the smallest and the largest",
        "",
    ]
    text = "\n".join([*header, *table(results), ""])
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text)
    Console().print(text, markup=False, soft_wrap=True)


def _prepare() -> list[str]:
    settings = read_settings()
    published = read_published(settings, MODEL, MAX_USERS)
    write_job(published, resolve_cache_url(settings.cache_url), settings.artifact_dir)
    write_queries(published)
    return [
        f"- Machine: {describe_machine()}",
        f"- Model: {MODEL}, artifact {published.artifact.artifact_id}",
    ]


def _run_rounds(rounds: int, seconds: float) -> Mapping[str, Mapping[Cell, list[Measured]]]:
    queries = read_queries()
    longest = max(queries)
    results: dict[str, dict[Cell, list[Measured]]] = defaultdict(lambda: defaultdict(list))
    for number in range(rounds):
        for title, server in modes().items():
            Console().print(f"round {number + 1} of {rounds}: {title}")
            with running(server, server.workers[-1], queries[longest][0]) as port:
                for cell in CELLS:
                    requests = _requests(port, cell, queries.get(cell.slate) or queries[longest])
                    loading = load(port, cell.concurrency, requests, seconds / 4, seconds)
                    results[title][cell].append(measured(*uvloop.run(loading)))
    return results


def _requests(port: int, cell: Cell, queries: Sequence[Query]) -> list[bytes]:
    route, host = ABSORB.routes[0], f"{HOST}:{port}"
    return [http_request(route, host, query.first(cell.slate)) for query in queries]


def table(results: Mapping[str, Mapping[Cell, list[Measured]]]) -> list[str]:
    """Markdown lines of the results: title -> cell -> figures of each round."""
    lines = ["| at a time | B | | answers/s | p50 ms | p99 ms |", "|---|---|---|---|---|---|"]
    for cell in CELLS:
        for title, by_cell in results.items():
            rounds = by_cell[cell]
            per_s = spread([figures.per_s for figures in rounds]).text(0)
            p50 = spread([figures.p50_ms for figures in rounds]).text(2)
            p99 = spread([figures.p99_ms for figures in rounds]).text(1)
            lines.append(
                f"| {cell.concurrency} | {cell.slate:,} | {title} | {per_s} | {p50} | {p99} |"
            )
    return lines


if __name__ == "__main__":
    run_app(app, "python -m loadtest.modes")
