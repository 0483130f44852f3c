"""The fused kernels beside the model, in Triton's interpreter."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from loadtest.gpu_check.buffers import Buffers
from loadtest.gpu_check.fused import fused
from loadtest.gpu_check.fused_plan import make_plan
from loadtest.gpu_check.options import Options
from tests.builds import Builds
from tests.cases import Case

ROOT = Path(__file__).parents[3]
COMPARE = """
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


@pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
def test_the_fused_kernels_score_as_the_model(options: Options) -> None:
    # In a process of its own: Triton chooses between interpreter and compiler when it is imported.
    command = [sys.executable, "-c", COMPARE, str(options.artifact), str(options.records)]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}

    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert "compared" in done.stdout


@pytest.mark.skipif(find_spec("triton") is not None, reason="triton is installed")
def test_without_triton_a_launch_gives_the_reason(options: Options) -> None:
    inputs = options.inputs()
    run = fused(make_plan(inputs.model()), Buffers(inputs.feed([0], 5), "cpu"))
    with pytest.raises(
        ModuleNotFoundError, match=r"attention_kernel: .* 'triton' is not installed"
    ):
        run()


def test_a_plan_is_refused_for_another_model(builds: Builds) -> None:
    din = builds.checkpoint(Case("din", "long")).build()

    with pytest.raises(ValueError, match="model: got DIN, expected LREA with hash slots"):
        make_plan(din)


def test_a_plan_has_the_shapes_that_the_kernels_read(options: Options) -> None:
    inputs = options.inputs()
    plan = make_plan(inputs.model())

    rows, dim = plan.rows.shape
    assert rows == inputs.schema.num_items
    assert plan.keys.shape == (rows, 2 * plan.families)
    assert plan.fold.shape[:2] == (2, 3)
    assert plan.fold.shape[3] == dim
    # Itself, recent events and slots for each head, means and three scalars of each family.
    candidate = (1 + 2 * plan.heads + plan.families) * dim + 3 * plan.families
    assert plan.candidate.shape == (candidate, plan.bias.shape[0])
    assert plan.wide.shape == (3 * plan.families,)
