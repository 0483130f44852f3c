"""`absorb bench-engines` measures every instruction set of this machine, and refuses what it cannot measure."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from builder.export.precompute import precompute, write_records
from loadtest.engines.__main__ import app
from loadtest.engines.measure import part_flops
from models.contract.plan import PlanSizes
from service.native.library import open_library
from service.runtime.engines.native.engine import supported_isas
from tests.builds import Builds
from tests.cases import Case

SMALL = ["--users", "4", "--rounds", "2", "--candidates", "3", "--candidates", "70"]


@pytest.fixture(autouse=True)
def compiled(native_library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ABSORB_NATIVE_LIBRARY", str(native_library))


def run(builds: Builds, case: Case, folder: Path, *options: str) -> tuple[int, str]:
    artifact = builds.artifact(case)
    write_records(precompute(artifact, builds.events, 1), artifact, "fp16", folder / "records.bin")
    arguments = [str(artifact.path), str(folder / "records.bin"), "--out", str(folder / "out")]
    result = CliRunner().invoke(app, [*arguments, *options], env={"COLUMNS": "200"})
    return result.exit_code, result.output


def test_every_instruction_set_is_measured_beside_onnx_runtime(
    builds: Builds, tmp_path: Path, native_library: Path
):
    code, output = run(builds, Case("lrea", "items"), tmp_path, *SMALL)
    assert code == 0, output
    assert (tmp_path / "out" / "engines.md").read_text().strip() == output.strip()
    results = json.loads((tmp_path / "out" / "engines.json").read_text())
    isas = supported_isas(open_library(native_library))
    engines = ["onnxruntime", *(f"native {isa}" for isa in isas)]
    cells = results["cells"]
    expected = [
        (number, slots, engine)
        for number in (3, 70)
        for slots in ("as recorded", "all filled")
        for engine in engines
    ]
    assert [(c["candidates"], c["slots"], c["engine"]) for c in cells] == expected
    assert results["peak_gflops"].keys() == set(isas)
    assert min(results["peak_gflops"].values()) > 0.1
    assert max(cell["difference"] for cell in cells) <= 1e-5
    assert {cell["filled"] for cell in cells if cell["slots"] == "all filled"} == {16}
    shares = [cell["percent_of_peak"] for cell in cells if cell["engine"] != "onnxruntime"]
    assert all(share.keys() == {"attention", "head", "all"} for share in shares)
    assert all(0 < value <= 100 for share in shares for value in share.values())


def test_an_artifact_without_a_plan_is_refused(builds: Builds, tmp_path: Path):
    code, output = run(builds, Case("lrea", "hash"), tmp_path, *SMALL)
    assert code == 2
    assert "has no plan" in output


def test_a_missing_library_is_named(
    builds: Builds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("ABSORB_NATIVE_LIBRARY", str(tmp_path / "absent.so"))
    code, output = run(builds, Case("lrea", "items"), tmp_path, *SMALL)
    assert code == 2
    assert "service.native.compile" in output


def test_arithmetic_is_counted_as_the_equations_have_it():
    sizes = PlanSizes(
        num_items=9, widths=(3, 2), described=1, rank=8, heads=2, short_heads=1, recent=4, profile=0,
        embedding=2, context=(), candidate=(3,), layers=(6,), slope=0.1,
    )  # fmt: skip
    # A pair: cosines 5, mixed to heads, pooled with the mass. Head: 5 · 7 vectors, 3 described, 3 masses.
    slots, recent = 8 * (5 + 2 * 2 + 2 * 6), 4 * (5 + 2 * 1 + 1 * 6)
    parts = part_flops(sizes, 8, 4, 10)
    assert parts["attention"] == pytest.approx(2 * 10 * (slots + recent))
    assert parts["head"] == pytest.approx(2 * 10 * ((35 + 3 + 3) * 6 + 6))
    assert np.isclose(part_flops(sizes, 0, 0, 10)["attention"], 0)
