"""The bench: choose each server's number of workers, then measure all rows in rounds, one after another.

A server runs only while it is measured, because an idle server uses some of the cores. Figures are kept in one file for
each row and round, so a run that was interrupted continues where it ended.
"""

import json
import math
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from loadtest.peers.cells import CELLS, CONCURRENCIES, Cell
from loadtest.peers.environments import PeerError
from loadtest.peers.paths import RESULTS, ROOT
from loadtest.peers.processes import running
from loadtest.peers.queries import SLATES, Query
from loadtest.peers.servers import AUTO, BARE, BARES, MODEL, Route, Server

Figures = dict[str, dict[str, float]]
"""Cell -> figure name -> value."""
TRIAL_CELLS = tuple(Cell(max(CONCURRENCIES), slate) for slate in SLATES)
SLACK_S = 120
ASK_LIMIT_S = 10


@dataclass(frozen=True)
class Effort:
    """Amount of measuring.

    Attributes:
        rounds: number of measurements of every row.
        seconds: duration of each cell.
        warm_up_s: duration of the warm-up before each cell.
        trial_s: duration of each cell of the trial that chooses the number of workers; 0: no trial, the largest number.
        limit_s: no round is begun that would probably end later than this after the start of the first.
    """

    rounds: int
    seconds: float
    warm_up_s: float
    trial_s: float
    limit_s: float = math.inf


FULL = Effort(rounds=5, seconds=1.6, warm_up_s=0.4, trial_s=1.5)
QUICK = Effort(rounds=3, seconds=0.6, warm_up_s=0.2, trial_s=0.0, limit_s=540.0)


def run_rounds(
    servers: tuple[Server, ...], effort: Effort, probe: Query, log: Callable[[str], None]
) -> dict[str, str]:
    """Measure the rows and rounds that have no figures yet.

    Returns:
        Row of a call in process, or server -> reason of its failure, for those that failed.
    """
    problems: dict[str, str] = {}
    for server in servers:
        with _noted(problems, server.name, log):
            _choose_workers(server, effort, probe, log)
    rows = (*(BARES if any(server.engine for server in servers) else (BARE,)), *servers)
    start = monotonic()
    for number in range(1, effort.rounds + 1):
        elapsed_s = monotonic() - start
        if number > 1 and elapsed_s * number / (number - 1) > effort.limit_s:
            log(f"{number - 1} rounds took {elapsed_s:.0f} s: no time for another")
            break
        log(f"round {number} of {effort.rounds}")
        for row in _rotated(rows, number):
            name = row if isinstance(row, str) else row.name
            if name not in problems and not _is_measured(row, number):
                log(f"  {name}")
                with _noted(problems, name, log):
                    _measure(row, effort, probe, number)
    return problems


@contextmanager
def _noted(problems: dict[str, str], name: str, log: Callable[[str], None]) -> Iterator[None]:
    """Keep the reason of a failure, so that the others are measured anyway."""
    try:
        yield
    except PeerError as error:
        problems[name] = str(error)
        log(f"{name}: {error}")


def chosen_workers(server: Server) -> tuple[int, dict[int, float]]:
    """The chosen number of workers, and answers per second by number of workers (geometric mean over B)."""
    if not _trial_path(server).exists():
        return max(server.workers), {}
    tried = {int(n): per_s for n, per_s in json.loads(_trial_path(server).read_text()).items()}
    return max(tried, key=lambda workers: tried[workers]), tried


def engine_of(server: Server) -> str | None:
    """Engine that scored for a server of this repository, as it answered itself; None: not known."""
    path = _engine_path(server)
    return str(json.loads(path.read_text())) if path.exists() else None


def read_figures(row: str) -> list[Figures]:
    """Figures of a row, one entry for each measured round."""
    return [json.loads(path.read_text()) for path in sorted(RESULTS.glob(f"{row}/round-*.json"))]


def _choose_workers(
    server: Server, effort: Effort, probe: Query, log: Callable[[str], None]
) -> None:
    if len(server.workers) == 1 or not effort.trial_s or _trial_path(server).exists():
        return
    tried: dict[int, float] = {}
    problem = None
    for workers in server.workers:
        try:
            tried[workers] = _trial(server, workers, effort, probe)
        except PeerError as error:
            problem = error
            log(f"{server.title}, workers: {workers}: {error}")
    if problem is not None and not tried:
        raise problem
    _write(_trial_path(server), tried)
    log(f"{server.title}: answers/s by workers: { {n: round(x) for n, x in tried.items()} }")


def _trial(server: Server, workers: int, effort: Effort, probe: Query) -> float:
    """Answers per second at the highest concurrency, geometric mean over B."""
    with running(server, workers, probe) as port:
        timing = (effort.warm_up_s, effort.trial_s)
        figures = _drive(port, server.routes[0], TRIAL_CELLS, *timing)
    per_s = [figures[str(cell)]["per_s"] for cell in TRIAL_CELLS]
    return math.exp(sum(map(math.log, per_s)) / len(per_s))


def _measure(row: str | Server, effort: Effort, probe: Query, number: int) -> None:
    """Measure a call in process, by the name of its row, or a server."""
    if isinstance(row, str):
        _save(row, number, _bare(row, effort))
        return
    workers, _ = chosen_workers(row)
    with running(row, workers, probe) as port:
        if row.engine is not None:
            _write(_engine_path(row), _checked_engine(row, port))
        for route in row.routes:
            _save(route.name, number, _drive(port, route, CELLS, effort.warm_up_s, effort.seconds))


def _checked_engine(server: Server, port: int) -> str:
    """The engine that scores.

    Raises:
        PeerError: it is not the one that was asked for.
    """
    with urllib.request.urlopen(
        f"http://127.0.0.1:{port}/v1/models", timeout=ASK_LIMIT_S
    ) as answer:
        models = json.load(answer)["models"]
    engine = next(model["engine"] for model in models if model["name"] == MODEL)
    got = str(engine["name"])
    if server.engine not in (AUTO, got):
        refused = engine["refused"].get(server.engine, engine["reason"])
        raise PeerError(f"engine: got {got}, expected {server.engine}: {refused}")
    return got


def _rotated(rows: tuple[str | Server, ...], number: int) -> tuple[str | Server, ...]:
    """Start each round with another row, so that drift affects all alike; a bare call stays near Absorb's rows."""
    first = (number - 1) % len(rows)
    return rows[first:] + rows[:first]


def _drive(
    port: int, route: Route, cells: tuple[Cell, ...], warm_up_s: float, seconds: float
) -> Figures:
    plan = {
        "port": port,
        "route": asdict(route),
        "cells": [asdict(cell) for cell in cells],
        "warm_up_s": warm_up_s,
        "seconds": seconds,
    }
    return _figures("loadtest.peers.driver", plan)


def _bare(row: str, effort: Effort) -> Figures:
    cells = [asdict(cell) for cell in CELLS]
    plan = {
        "row": row,
        "cells": cells,
        "warm_up_s": effort.warm_up_s,
        "seconds": effort.seconds,
    }
    return _figures("loadtest.peers.bare", plan)


def _figures(module: str, plan: dict[str, Any]) -> Figures:
    limit_s = SLACK_S + len(plan["cells"]) * (plan["warm_up_s"] + plan["seconds"])
    try:
        done = subprocess.run(
            [sys.executable, "-m", module],
            input=json.dumps(plan),
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=limit_s,
        )
    except subprocess.TimeoutExpired as error:
        raise PeerError(f"load: still running after {limit_s:.0f} s") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no error message"])[-1]
        raise PeerError(f"load: {last}")
    figures: Figures = json.loads(done.stdout)
    return figures


def _is_measured(row: str | Server, number: int) -> bool:
    names = [row] if isinstance(row, str) else [route.name for route in row.routes]
    return all(_path(name, number).exists() for name in names)


def _path(row: str, number: int) -> Path:
    return RESULTS / row / f"round-{number}.json"


def _trial_path(server: Server) -> Path:
    return RESULTS / server.name / "workers.json"


def _engine_path(server: Server) -> Path:
    return RESULTS / server.name / "engine.json"


def _save(row: str, number: int, figures: Figures) -> None:
    _write(_path(row, number), figures)


def _write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_suffix(".part")
    staged.write_text(json.dumps(value, indent=1))
    staged.replace(path)
