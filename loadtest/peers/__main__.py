"""`python -m loadtest.peers`: install the peers, measure all rows in rounds, write the table and the plot.

Exit code 0: measured, whatever the verdicts say; 2: it could not be run.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from loadtest.peers.bench import (
    FULL,
    QUICK,
    Effort,
    chosen_workers,
    has_trial,
    read_figures,
    run_rounds,
)
from loadtest.peers.environments import PeerError, install, version_of
from loadtest.peers.places import JOB, PUBLISHED, RESULTS, ROOT
from loadtest.peers.queries import SLATES, read_queries, write_job, write_queries
from loadtest.peers.report import Row, page, plot
from loadtest.peers.servers import ABSORBS, BARE, PEERS, Server
from models.contract.embedded_cache import resolve_cache_url
from models.contract.errors import AbsorbError
from service.settings import read_settings
from service.tools.published import read_published

MODEL = "lrea"
MAX_USERS = 1_000_000
STAMP = RESULTS / "stamp.json"
PROBLEMS = RESULTS / "problems.json"


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line asks for; return the exit code."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _stop)
    chosen = tuple(
        server for server in (*ABSORBS, *PEERS) if server.name in (options.only or [server.name])
    )
    problems = {} if options.report else _install(chosen)
    if options.install:
        return 0
    effort = _effort(options)
    try:
        if not options.report:
            _prepare(effort, options.fresh)
            ready = tuple(server for server in chosen if server.name not in problems)
            probe = read_queries()[SLATES[0]][0]
            problems |= run_rounds(ready, effort, probe, Console().print)
            PROBLEMS.write_text(json.dumps(problems, indent=1))
        _write(options.out, json.loads(PROBLEMS.read_text()))
    except (AbsorbError, PeerError, FileNotFoundError) as error:
        sys.stderr.write(f"peers: {error}\n")
        return 2
    return 0


def _stop(*_: object) -> None:
    """End as by Ctrl-C: the server that runs is stopped on the way out."""
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


def _effort(options: argparse.Namespace) -> Effort:
    base = QUICK if options.quick else FULL
    rounds, seconds = options.rounds or base.rounds, options.seconds or base.seconds
    return Effort(rounds, seconds, base.warm_up_s, min(base.trial_s, seconds))


def _prepare(effort: Effort, is_fresh: bool) -> None:
    """Say what is served and asked; throw results away that another run made of something else."""
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


def _write(out: Path, problems: dict[str, str]) -> None:
    bare = Row(BARE, "onnxruntime alone", False, read_figures(BARE))
    ours = [row for server in ABSORBS for row in _rows(server, problems)]
    others = [row for server in PEERS for row in _rows(server, problems)]
    out.mkdir(parents=True, exist_ok=True)
    text = page(ours, bare, others, _about(bare))
    (out / "peers.md").write_text(text)
    plot([bare, *ours, *others], out / "peers.png")
    Console().print(text, markup=False, soft_wrap=True)


def _rows(server: Server, problems: dict[str, str]) -> list[Row]:
    problem = problems.get(server.name, "" if has_trial(server) else "not measured")
    rows = []
    for route in server.routes:
        title = server.title if route is server.routes[0] else f"{server.title}, {route.wire}"
        if len(server.workers) > 1 and has_trial(server):
            title += f", {_workers(server)}"
        rows.append(Row(route.name, title, server.is_general, read_figures(route.name), problem))
    return rows


def _workers(server: Server) -> str:
    number, _ = chosen_workers(server)
    return {0: "in process", 1: "1 worker"}.get(number, f"{number} workers")


def _about(bare: Row) -> dict[str, str]:
    stamp: dict[str, Any] = json.loads(STAMP.read_text())
    tried = []
    for server in PEERS:
        if has_trial(server):
            by_workers = chosen_workers(server)[1].items()
            tried.append(f"{server.name} " + ", ".join(f"{n}: {x:,.0f}" for n, x in by_workers))
    seconds, warm_up_s, _ = stamp["effort"]
    return {
        "Measured": f"{datetime.now(UTC):%Y-%m-%d} at {_commit()}, {len(bare.rounds)} interleaved rounds, "
        f"{seconds:g} s for each cell after {warm_up_s:g} s of warm-up",
        "Command": "`make peers`",
        "Machine": stamp["machine"],
        "Model": f"{stamp['model']}, artifact {stamp['artifact_id']}, generation {stamp['generation']}",
        "Versions": ", ".join(f"{version_of(server)}" for server in (ABSORBS[0], *PEERS)),
        "Workers tried (answers/s at 8 at a time, geometric mean over B)": "; ".join(tried),
    }


def describe_machine() -> str:
    """Cores, processor, system and Python, for a results page."""
    model = platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        model = next((s.partition(": ")[2] for s in lines if s.startswith("model name")), model)
    return f"{os.cpu_count()} cores of {model}, {platform.system()}, Python {platform.python_version()}"


def _commit() -> str:
    asked = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "an unknown commit"


def _parser() -> argparse.ArgumentParser:
    names = [server.name for server in (*ABSORBS, *PEERS)]
    parser = argparse.ArgumentParser("python -m loadtest.peers", description=__doc__)
    parser.add_argument("--only", action="append", choices=names, help="measure these alone")
    parser.add_argument("--quick", action="store_true", help="one round of a second a cell")
    parser.add_argument("--rounds", type=int, help=f"absent: {FULL.rounds}")
    parser.add_argument("--seconds", type=float, help=f"a cell; absent: {FULL.seconds:g}")
    parser.add_argument("--install", action="store_true", help="make the environments, and end")
    parser.add_argument("--report", action="store_true", help="write the table again, and end")
    parser.add_argument("--fresh", action="store_true", help="throw away what was measured")
    parser.add_argument("--out", type=Path, default=PUBLISHED, help="folder of table and plot")
    return parser


if __name__ == "__main__":
    sys.exit(main())
