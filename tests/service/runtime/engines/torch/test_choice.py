"""The engine torch on artifacts with a plan, chosen by name on a CPU; and what scores where it does not."""

from pathlib import Path

import numpy as np
import pytest
import torch

from models.contract.artifact import FILES, SCORE, save_artifact
from models.contract.schema import UNKNOWN
from service.runtime.encoder import Encoder
from service.runtime.engines.engine import EngineSlate
from service.runtime.engines.onnxruntime import OnnxRuntimeEngine
from service.runtime.engines.torch.engine import TorchEngine
from service.runtime.scorer import Scorer
from tests.builds import Builds
from tests.cases import Case

ITEMS = Case("lrea", "items")
without_device = pytest.mark.skipif(torch.cuda.is_available(), reason="for a machine without a GPU")


def slates_of(builds: Builds, scorer: Scorer) -> list[EngineSlate]:
    """Slates of users with histories of several lengths; every other state is on the device."""
    artifact, rng = builds.artifact(ITEMS), np.random.default_rng(0)
    schema, encoder = artifact.manifest.schema, Encoder(artifact, 1)
    memory = scorer.state_memory
    assert memory is not None
    states = [encoder.random_state(length, rng) for length in (1, 5, 12, 24)]
    return [
        EngineSlate(
            memory.write(state) if number % 2 else state,
            rng.integers(0, schema.num_items, 3),
            np.array([rng.integers(UNKNOWN, field.size) for field in schema.context_fields]),
            rng.integers(0, schema.num_items, 9),
            np.zeros((9, 0), np.int64),
        )
        for number, state in enumerate(states)
    ]


def check(builds: Builds, scorer: Scorer, slates: list[EngineSlate]) -> None:
    artifact = builds.artifact(ITEMS)
    recent_length = artifact.manifest.schema.recent_length
    expected = OnnxRuntimeEngine(artifact.graph(SCORE), recent_length, 1)
    for slate, logits in zip(slates, scorer.choice.engine.score_many(slates), strict=True):
        np.testing.assert_allclose(logits, expected.score_many([slate])[0], atol=1e-5)  # type: ignore[arg-type]


@pytest.mark.parametrize("label", ["items", "activity"])
def test_an_artifact_with_a_plan_is_scored_if_the_engine_is_named(builds: Builds, label: str):
    choice = Scorer(builds.artifact(Case("lrea", label)), 1, "torch").choice
    assert (choice.engine.name, choice.reason) == ("torch", "named"), choice.refused


def test_it_scores_as_onnx_runtime_does(builds: Builds):
    scorer = Scorer(builds.artifact(ITEMS), 1, "torch")
    check(builds, scorer, slates_of(builds, scorer))


def test_onnx_runtime_reads_states_of_the_device_where_the_engine_fails(
    builds: Builds, monkeypatch: pytest.MonkeyPatch
):
    fallbacks: list[tuple[str, str]] = []
    scorer = Scorer(
        builds.artifact(ITEMS), 1, "torch", lambda name, reason: fallbacks.append((name, reason))
    )
    slates = slates_of(builds, scorer)

    def fail(self: TorchEngine, slates: list[EngineSlate]) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(TorchEngine, "score_many", fail)
    check(builds, scorer, slates)
    assert fallbacks == [("torch", "error")] * len(slates)


@without_device
def test_on_a_cpu_it_is_not_chosen_by_itself(builds: Builds):
    choice = Scorer(builds.artifact(ITEMS), 1, "auto").choice
    assert choice.engine.name != "torch"
    assert choice.refused["torch"].startswith("no NVIDIA GPU: neither of /dev/nvidiactl")
    assert choice.refused["cuda"].startswith("no NVIDIA GPU: neither of /dev/nvidiactl")


def test_an_artifact_without_a_plan_is_scored_by_onnx_runtime(builds: Builds, tmp_path: Path):
    artifact = builds.artifact(ITEMS)
    files = {name: artifact.read(name) for name in FILES if name in artifact.manifest.files}
    choice = Scorer(save_artifact(tmp_path, artifact.manifest, files), 1, "torch").choice
    assert (choice.engine.name, choice.reason) == ("onnxruntime", "torch: no plan")
