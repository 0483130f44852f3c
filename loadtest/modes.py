"""`python -m loadtest.modes`: one process with threads beside a process per core, and joined slates beside single ones.

The same requests, in rounds, on the model published as `lrea` in `ABSORB_CACHE_URL`; a closed loop over connections
that stay open. Writes `loadtest/results/modes.md`. Some three minutes on two cores.
"""

import argparse
import os
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import uvloop
from rich.console import Console

from loadtest.peers.__main__ import MAX_USERS, MODEL, describe_machine
from loadtest.peers.cells import Cell, Measured, measured
from loadtest.peers.driver import HOST, load
from loadtest.peers.environments import PeerError
from loadtest.peers.processes import running
from loadtest.peers.queries import Query, read_queries, write_job, write_queries
from loadtest.peers.report import spread
from loadtest.peers.servers import ABSORBS, Server
from loadtest.peers.wires import http_request
from models.contract.embedded_cache import resolve_cache_url
from models.contract.errors import AbsorbError
from service.settings import read_settings
from service.tools.published import read_published

CELLS = tuple(Cell(*pair) for pair in product((1, 8, 32), (20, 200, 1000)))
OUT = Path("loadtest/results/modes.md")
ONE = ABSORBS[0]
JOINED = "16"
"""Requests in one run of the graph, at most."""


def modes() -> dict[str, Server]:
    """Title -> the service as it is started; the last of its numbers of workers is its number of processes."""
    cores = len(os.sched_getaffinity(0))
    joined = {**ONE.environment, "ABSORB_BATCH_MAX_REQUESTS": JOINED}
    one = replace(ONE, workers=(1,))
    return {
        "one process, a thread per core": one,
        "a process per core": replace(ONE, workers=(cores,)),
        f"one process, up to {JOINED} slates joined": replace(one, environment=joined),
    }


def main(arguments: list[str] | None = None) -> int:
    """Measure, write the table; exit code 2: it could not be run."""
    parser = argparse.ArgumentParser("python -m loadtest.modes", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="absent: 3")
    parser.add_argument("--seconds", type=float, default=1.5, help="a cell; absent: 1.5")
    parser.add_argument("--out", type=Path, default=OUT, help=f"absent: {OUT}")
    options = parser.parse_args(arguments)
    try:
        about = _prepare()
        found = _run_rounds(options.rounds, options.seconds)
    except (AbsorbError, PeerError, ExceptionGroup) as error:
        sys.stderr.write(f"modes: {error}\n")
        return 2
    header = [
        "# One process or several, slates joined or not",
        "",
        f"- Command: `python -m loadtest.modes --rounds {options.rounds} --seconds {options.seconds:g}`",
        *about,
        "- Interleaved rounds, so many seconds a cell; medians, in brackets least and most",
        "",
    ]
    text = "\n".join([*header, *table(found), ""])
    options.out.write_text(text)
    Console().print(text, markup=False, soft_wrap=True)
    return 0


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
    found: dict[str, dict[Cell, list[Measured]]] = defaultdict(lambda: defaultdict(list))
    for number in range(rounds):
        for title, server in modes().items():
            Console().print(f"round {number + 1} of {rounds}: {title}")
            with running(server, server.workers[-1], queries[longest][0]) as port:
                for cell in CELLS:
                    asked = queries.get(cell.slate) or queries[longest]
                    timing = seconds / 4, seconds
                    loading = load(port, cell.concurrency, _requests(port, cell, asked), *timing)
                    found[title][cell].append(measured(*uvloop.run(loading)))
    return found


def _requests(port: int, cell: Cell, queries: Sequence[Query]) -> list[bytes]:
    route, host = ONE.routes[0], f"{HOST}:{port}"
    return [http_request(route, host, one.user_id, one.candidates[: cell.slate]) for one in queries]


def table(found: Mapping[str, Mapping[Cell, list[Measured]]]) -> list[str]:
    """Markdown lines: title -> cell -> what each round gave."""
    lines = ["| at a time | B | | answers/s | p50 ms | p99 ms |", "|---|---|---|---|---|---|"]
    for cell in CELLS:
        for title, by_cell in found.items():
            rounds = by_cell[cell]
            per_s = spread([one.per_s for one in rounds]).text(0)
            p50 = spread([one.p50_ms for one in rounds]).text(2)
            p99 = spread([one.p99_ms for one in rounds]).text(1)
            lines.append(
                f"| {cell.concurrency} | {cell.slate:,} | {title} | {per_s} | {p50} | {p99} |"
            )
    return lines


if __name__ == "__main__":
    sys.exit(main())
