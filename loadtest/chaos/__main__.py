"""`absorb chaos`: break things under load, check every answer, print the figures."""

import asyncio
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from loadtest.chaos.catalogue import SCENARIOS
from loadtest.chaos.fixtures import Fixtures, make_fixtures, trained_artifacts
from loadtest.chaos.report import markdown, save, terminal_table
from loadtest.chaos.runner import run_scenario
from loadtest.chaos.scenario import Scenario
from loadtest.chaos.swaps import SWAPS, swaps
from loadtest.chaos.verdict import Figures, conclude
from loadtest.choices import some_of
from models.command_line import run_app
from models.contract.errors import AbsorbError

OUT = Path("var/chaos")
TABLE_WIDTH = 110
NAMES = [scenario.name for scenario in SCENARIOS]
EXIT_CODES = (
    "Exit codes: 0 every rule held, 1 a rule was broken and the table names it, 2 the environment could not be set up, "
    "or wrong usage."
)

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(epilog=f"Example: absorb chaos cache-killed flips --quick\n\n{EXIT_CODES}")
def chaos(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SCENARIO",
            help=f"scenarios, by default all but `{SWAPS}`, which runs alone",
            callback=some_of([*NAMES, SWAPS]),
        ),
    ] = None,
    is_listing: Annotated[bool, typer.Option("--list", help="list the scenarios and end")] = False,
    is_quick: Annotated[bool, typer.Option("--quick", help="run everything, shorter")] = False,
    count: Annotated[int, typer.Option(min=1, help=f"number of model swaps of `{SWAPS}`")] = 1000,
    out: Annotated[Path, typer.Option(help="folder of logs, artifacts and figures")] = OUT,
    report: Annotated[
        Path | None, typer.Option(help="Markdown file that the table is written to as well")
    ] = None,
) -> None:
    """Break the cache, the service, generations and clients under load, and check every score."""
    console = Console(width=max(Console().width, TABLE_WIDTH))
    if is_listing:
        _list(console)
        return
    # As with Ctrl-C: the cache, the service and the client are stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if not (out / "artifacts").exists():
            console.print("training two small artifacts, once …")
        fixtures = make_fixtures(trained_artifacts(out / "artifacts"))
        if names == [SWAPS]:
            raise typer.Exit(swaps(fixtures, out, count, console))
        figures = _run_all(_chosen(names or []), fixtures, out, is_quick, console)
    except (AbsorbError, ValueError) as error:
        typer.echo(f"chaos: {error}", err=True)
        raise typer.Exit(2) from error
    save(figures, out / "chaos.json")
    if report:
        command = " ".join(["absorb chaos", *(names or []), *(["--quick"] if is_quick else [])])
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(markdown(figures, command))
    console.print(terminal_table(figures))
    raise typer.Exit(1 if any(scenario.broken for scenario in figures) else 0)


def _list(console: Console) -> None:
    for scenario in SCENARIOS:
        console.print(f"{scenario.name:18} {scenario.summary}")
    console.print(f"{SWAPS:18} model swaps under light load: --count of them, memory and p99")


def _run_all(
    chosen: Sequence[Scenario], fixtures: Fixtures, out: Path, is_quick: bool, console: Console
) -> list[Figures]:
    results: list[Figures] = []
    for scenario in chosen:
        console.print(f"{scenario.name}: {scenario.summary} …")
        evidence = asyncio.run(run_scenario(scenario, fixtures, out / scenario.name, is_quick, {}))
        results.append(conclude(evidence))
        for problem in results[-1].broken:
            console.print(f"  broken: {problem}", style="red", markup=False)
    return results


def _chosen(names: Sequence[str]) -> list[Scenario]:
    if SWAPS in names:
        raise ValueError(f"scenario: got `{SWAPS}` with others, expected it alone")
    return [scenario for scenario in SCENARIOS if not names or scenario.name in names]


if __name__ == "__main__":
    run_app(app, "python -m loadtest.chaos")
