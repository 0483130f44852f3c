"""The whole check on the CPU, on a small artifact; the fused kernels beside the model, in Triton's interpreter."""

import gzip
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from builder.export.precompute import precompute, write_records
from loadtest.gpu_check.__main__ import PARTS, ROOT, main
from loadtest.gpu_check.buffers import Buffers
from loadtest.gpu_check.fused_plan import make_plan
from loadtest.gpu_check.inputs import read_inputs
from loadtest.gpu_check.report import read
from tests.builds import Builds
from tests.cases import Case

CASE = Case("lrea", "hash")
IS_CPU = not torch.cuda.is_available()


@pytest.fixture
def given(builds: Builds, tmp_path: Path) -> tuple[Path, Path]:
    """Folder of an artifact, and a gzipped file of records that it made."""
    artifact = builds.artifact(CASE)
    plain = tmp_path / "records.bin"
    write_records(precompute(artifact, builds.events, 1), artifact, "fp32", plain)
    packed = tmp_path / "records.bin.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    return artifact.path, packed


def run_check(given: tuple[Path, Path], out: Path, *more: str) -> int:
    artifact, records = given
    sizes = ["--users", "4", "--joined", "2", "--slates", "16", "--lengths", "30", "60"]
    times = ["--seconds", "0.01", "--serve-seconds", "0.1"]
    files = ["--artifact", str(artifact), "--records", str(records), "--out", str(out)]
    return main([*files, *sizes, *times, *more])


@pytest.mark.skipif(not IS_CPU, reason="says what a machine without a CUDA device does")
def test_without_a_device_every_part_ends_and_says_what_did_not_run(
    given: tuple[Path, Path], tmp_path: Path
) -> None:
    assert run_check(given, tmp_path / "out") == 0

    parts: dict[str, Any] = read(tmp_path / "out")["parts"]
    assert parts.keys() == PARTS.keys()
    ran = {name for name, part in parts.items() if part["status"] == "ran"}
    assert ran == {"parity", "service", "history", "onnxruntime-cpu"}
    assert all("no CUDA device" in parts[name]["status"] for name in parts.keys() - ran)
    differences = parts["parity"]["tables"]["differences from onnxruntime on the CPU"]
    assert differences[0]["what"] == "all"
    assert differences[0]["runs"] > 10
    assert all(row["max p"] < 1e-5 for row in differences)
    (answers,) = parts["service"]["tables"]["answers compared with onnxruntime on the CPU"]
    assert answers["provider"] == "CPUExecutionProvider"
    assert answers["max p"] < 1e-6
    assert answers["degraded"] == 0
    loops = parts["service"]["tables"]["closed loop over loopback HTTP, ms"]
    assert all(row["answers/s"] > 0 and row["degraded"] == 0 for row in loops)


def test_a_part_that_fails_says_why_and_leaves_the_next(
    given: tuple[Path, Path], tmp_path: Path
) -> None:
    artifact, records = given
    records.write_bytes(gzip.compress(b""))

    code = run_check((artifact, records), tmp_path, "--only", "parity", "--only", "environment")

    parts = read(tmp_path)["parts"]
    assert code == 1
    assert parts["parity"]["status"].startswith("failed: ValueError: records:")
    assert parts["environment"]["tables"]["machine"]


def test_a_plan_is_refused_for_another_model(given: tuple[Path, Path], builds: Builds) -> None:
    din = builds.checkpoint(Case("din", "long")).build()

    with pytest.raises(ValueError, match="expected LREA with hash slots"):
        make_plan(din)


FUSED = """
import sys
from pathlib import Path
import numpy as np
from loadtest.gpu_check.buffers import Buffers
from loadtest.gpu_check.fused import Tiles, fused
from loadtest.gpu_check.fused_plan import make_plan
from loadtest.gpu_check.inputs import read_inputs
from loadtest.gpu_check.torch_engines import eager
inputs = read_inputs(Path(sys.argv[1]), Path(sys.argv[2]))
model = inputs.model()
plan = make_plan(model)
feeds = {"two users": inputs.feed([0, 1], 37), **inputs.edge_cases(20)}
for precision in ("ieee", "tf32x3"):
    for name, feed in feeds.items():
        buffers = Buffers(feed, "cpu")
        eager(model, buffers)()
        expected = buffers.fetch()
        buffers.logits.fill_(float("nan"))
        # Fewer slots than a step has keys, and a last tile that is not full.
        fused(plan, buffers, Tiles(candidates=16, keys=16, precision=precision))()
        difference = np.abs(buffers.fetch() - expected).max()
        assert difference < 1e-5, (name, precision, difference)
print("compared", len(feeds))
"""


@pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed: a GPU's extra")
def test_the_fused_kernels_score_as_the_model(given: tuple[Path, Path]) -> None:
    # A process of its own: whether Triton interprets is settled when it is imported.
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    command = [sys.executable, "-c", FUSED, *map(str, given)]

    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert "compared" in done.stdout


def test_a_feed_survives_its_way_through_the_buffers(given: tuple[Path, Path]) -> None:
    inputs = read_inputs(*given)
    feed = inputs.feed([0, 1, 2], 9)
    other = inputs.feed([3, 4, 5], 9)

    buffers = Buffers(feed, "cpu")
    buffers.state.put(other)
    buffers.request.put(other)

    for name, tensor in buffers.inputs.items():
        np.testing.assert_array_equal(tensor.numpy(), other[name])
