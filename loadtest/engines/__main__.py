"""`absorb bench-engines`: ONNX Runtime and the native engine in turn, on an artifact and its records.

    absorb bench-engines var/artifacts/<id> var/runs/<recipe>/records.bin

It needs the compiled library (`python -m service.native.compile`). Measure on a machine that does nothing else.
"""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from loadtest.engines.inputs import read_slates, with_all_slots, with_candidates
from loadtest.engines.measure import BASELINE, Cell, measure, peak_gflops
from loadtest.engines.report import page, write_report
from loadtest.machine import commit, describe_machine
from models.command_line import run_app
from models.contract.artifact import SCORE, Artifact, load_artifact
from models.contract.errors import AbsorbError
from models.contract.plan import ItemSlotsPlan
from service.native.library import Library, NativeLibraryError, open_library
from service.runtime.engines.engine import Engine
from service.runtime.engines.native.engine import NativeEngine, supported_isas
from service.runtime.engines.onnxruntime import OnnxRuntimeEngine

CANDIDATES = (50, 200, 1000, 5000)
OUT = Path("loadtest/results/engines")
EXIT_CODES = "Exit codes: 0 measured, 2 it could not be run, or wrong usage."

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(
    epilog=f"Example: absorb bench-engines var/artifacts/0123… var/runs/promotions/records.bin\n\n{EXIT_CODES}"
)
def bench(
    artifact: Annotated[Path, typer.Argument(help="folder of an artifact with a plan")],
    records: Annotated[Path, typer.Argument(help="records that it made (.gz: gzipped)")],
    out: Annotated[Path, typer.Option(help="folder of the results")] = OUT,
    users: Annotated[int, typer.Option(min=1, help="number of users")] = 40,
    rounds: Annotated[int, typer.Option(min=1, help="number of rounds")] = 7,
    candidates: Annotated[
        list[int] | None, typer.Option(min=1, help="numbers of candidates")
    ] = None,
    all_slots: Annotated[
        bool, typer.Option(help="measure once more with all slots of each user filled")
    ] = True,
) -> None:
    """Time the engines in turn, and write a table and JSON."""
    try:
        loaded, library = load_artifact(artifact.parent, artifact.name), open_library()
        plan = loaded.plan()
        if plan is None:
            raise ValueError(f"artifact: {artifact} has no plan, expected one")
        kinds = ("as recorded", "all filled") if all_slots else ("as recorded",)
        contenders = _contenders(loaded, plan, library)
        peaks = {
            isa: peak_gflops(library, isa)
            for isa in supported_isas(library)
            if f"native {isa}" in contenders
        }
        cells: list[Cell] = []
        for number in candidates or CANDIDATES:
            for kind in kinds:
                cells += _measure(loaded, records, contenders, peaks, (number, kind, users, rounds))
    except (AbsorbError, NativeLibraryError, OSError, ValueError) as error:
        raise typer.BadParameter(str(error)) from error
    about: dict[str, Any] = {
        "machine": describe_machine(),
        "commit": commit(),
        "artifact": loaded.artifact_id,
        "peak_gflops": peaks,
        "users": users,
        "rounds": rounds,
    }
    write_report(out, about, cells)
    typer.echo(page(about, cells))


def _contenders(artifact: Artifact, plan: ItemSlotsPlan, library: Library) -> dict[str, Engine]:
    """ONNX Runtime, and the kernel with each instruction set of this machine, each on one thread."""
    recent = artifact.manifest.schema.recent_length
    engines: dict[str, Engine] = {BASELINE: OnnxRuntimeEngine(artifact.graph(SCORE), recent, 1)}
    for isa in supported_isas(library):
        engines[f"native {isa}"] = NativeEngine(plan, library, isa)
    return engines


def _measure(
    artifact: Artifact,
    records: Path,
    contenders: dict[str, Engine],
    peaks: dict[Any, float],
    setting: tuple[int, str, int, int],
) -> list[Cell]:
    number, kind, users, rounds = setting
    rng, plan = np.random.default_rng(number), artifact.plan()
    if plan is None:
        raise ValueError("artifact: has no plan, expected one")
    slates = [
        with_candidates(slate, artifact, number, rng)
        for slate in read_slates(artifact, records, users)
    ]
    if kind == "all filled":
        slates = [with_all_slots(slate, plan.sizes.num_items, rng) for slate in slates]
    by_engine = {f"native {isa}": peak for isa, peak in peaks.items()}
    return measure(contenders, slates, kind, rounds, by_engine, plan.sizes)


if __name__ == "__main__":
    run_app(app, "python -m loadtest.engines")
