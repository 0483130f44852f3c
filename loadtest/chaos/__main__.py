"""`python -m loadtest.chaos`: break things under load, check every answer, print the figures, exit by the rules.

Exit code 0: every rule held; 1: one was broken, and the table names it; 2: the stage could not be set.
"""

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from loadtest.chaos.cast import Cast, make_cast, trained_artifacts
from loadtest.chaos.catalogue import SCENARIOS
from loadtest.chaos.play import play
from loadtest.chaos.report import markdown, save, terminal_table
from loadtest.chaos.scenario import Scenario
from loadtest.chaos.swaps import SWAPS, swaps
from loadtest.chaos.verdict import Figures, conclude
from models.contract.errors import AbsorbError

OUT = Path("var/chaos")
TABLE_WIDTH = 110


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line asks for; return the exit code."""
    options = _parser().parse_args(arguments)
    console = Console(width=max(Console().width, TABLE_WIDTH))
    if options.list:
        for one in SCENARIOS:
            console.print(f"{one.name:18} {one.about}")
        console.print(f"{SWAPS:18} model swaps under light load: --count of them, memory and p99")
        return 0
    try:
        if not (options.out / "artifacts").exists():
            console.print("training two small artifacts, once …")
        cast = make_cast(trained_artifacts(options.out / "artifacts"))
        if options.scenario == [SWAPS]:
            return swaps(cast, options.out, options.count, console)
        return _play_all(_chosen(options.scenario), cast, options, console)
    except (AbsorbError, ValueError) as error:
        sys.stderr.write(f"chaos: {error}\n")
        return 2


def _play_all(
    chosen: Sequence[Scenario], cast: Cast, options: argparse.Namespace, console: Console
) -> int:
    played: list[Figures] = []
    for scenario in chosen:
        console.print(f"{scenario.name}: {scenario.about} …")
        folder = options.out / scenario.name
        evidence = asyncio.run(play(scenario, cast, folder, options.quick, {}))
        played.append(conclude(evidence))
        for problem in played[-1].broken:
            console.print(f"  broken: {problem}", style="red", markup=False)
    save(played, options.out / "chaos.json")
    if options.report:
        options.report.write_text(markdown(played, _command(options)))
    console.print(terminal_table(played))
    return 1 if any(one.broken for one in played) else 0


def _chosen(names: Sequence[str]) -> list[Scenario]:
    known = [one.name for one in SCENARIOS]
    if unknown := set(names) - set(known):
        raise ValueError(f"scenario: got {', '.join(sorted(unknown))}, expected {', '.join(known)}")
    return [one for one in SCENARIOS if not names or one.name in names]


def _command(options: argparse.Namespace) -> str:
    quick = ["--quick"] if options.quick else []
    return " ".join(["python -m loadtest.chaos", *options.scenario, *quick])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m loadtest.chaos", description=__doc__)
    parser.add_argument("scenario", nargs="*", help=f"by name; absent: all but `{SWAPS}`")
    parser.add_argument("--list", action="store_true", help="name the scenarios, and do nothing")
    parser.add_argument("--quick", action="store_true", help="everything, shorter")
    parser.add_argument("--count", type=int, default=1000, help=f"of `{SWAPS}`")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of logs, artifacts, figures")
    parser.add_argument("--report", type=Path, help="write the table to this Markdown file too")
    return parser


if __name__ == "__main__":
    # As with Ctrl-C: cache, service and client are stopped, not left behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
