"""`python -m loadtest.gpu_check`: run the check on this machine, or write the page and the plot of its results.

Parts run in groups, each group in a process of its own with a time limit. A part that fails, or breaks the device's
context, does not affect the other groups. Results are in `gpu_check.json` as soon as a part ends.
"""

from pathlib import Path
from typing import Annotated

import torch
import typer

from loadtest.choices import some_of
from loadtest.gpu_check.groups import PARTS, run_groups, run_part
from loadtest.gpu_check.options import FULL, QUICK, Options, newest_artifact, newest_records
from loadtest.gpu_check.results import CUT_SHORT, read_results
from models.command_line import run_app

OUT = Path("var/gpu-check")
EXIT_CODES = (
    "Exit codes: 0 every part ran or says why it cannot run on this machine, 1 a part failed or was cut short, "
    "2 wrong usage."
)

app = typer.Typer(
    help="Check the GPU path on this machine: scores, times, the service.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.command(epilog=f"Example: absorb gpu-check run --out var/gpu-check\n\n{EXIT_CODES}")
def run(
    artifact: Annotated[
        Path | None,
        typer.Option(help="folder of an artifact; by default the one that made the records"),
    ] = None,
    records: Annotated[
        Path | None,
        typer.Option(
            help="records of the artifact (.gz: gzipped); by default those of the newest run"
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="folder of the results")] = OUT,
    only: Annotated[
        list[str] | None,
        typer.Option(
            help=f"run this part alone, in this process: {', '.join(PARTS)}",
            callback=some_of(PARTS),
        ),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="tiny sizes: shows that all parts run, times mean nothing"),
    ] = False,
    limit: Annotated[
        float, typer.Option(help="seconds in all; what is left then is cut short")
    ] = 480,
    scratch: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    """Run every part, and write the results, a table and a plot. Parts that need a GPU say so where there is none."""
    try:
        records = records or newest_records()
        artifact = artifact or newest_artifact(records)
    except (ValueError, OSError) as error:
        raise typer.BadParameter(str(error), param_hint="--records") from error
    options = Options(
        artifact=artifact,
        records=records,
        out=out,
        scratch=scratch,
        effort=QUICK if quick else FULL,
        device="cuda" if torch.cuda.is_available() else "cpu",
    )
    if only:
        for part in only:
            run_part(part, options)
    else:
        run_groups(options, limit)
        _write_report(out, out)
    raise typer.Exit(_conclude(out, only is None))


@app.command(epilog="Example: absorb gpu-check report var/gpu-check --out docs/results/gpu")
def report(
    folder: Annotated[Path, typer.Argument(help="folder of gpu_check.json")] = OUT,
    out: Annotated[
        Path | None, typer.Option(help="folder of page and plot; by default the same")
    ] = None,
) -> None:
    """Write the page and the plot of results again."""
    try:
        _write_report(folder, out or folder)
    except ValueError as error:
        raise typer.BadParameter(f"{folder}: {error}", param_hint="FOLDER") from error


def _write_report(folder: Path, out: Path) -> None:
    try:
        from loadtest.gpu_check.report import write_report
    except ModuleNotFoundError as error:  # a machine with a GPU may lack it
        print(f"no table and no plot: the Python package {error.name!r} is not installed")
        return
    out.mkdir(parents=True, exist_ok=True)
    write_report(read_results(folder), out)


def _conclude(out: Path, is_whole: bool) -> int:
    statuses = {name: part["status"] for name, part in read_results(out)["parts"].items()}
    if is_whole:
        print("\n".join(f"{name}: {status.splitlines()[0]}" for name, status in statuses.items()))
    return int(any(status.startswith(("failed", CUT_SHORT)) for status in statuses.values()))


if __name__ == "__main__":
    run_app(app, "python -m loadtest.gpu_check")
