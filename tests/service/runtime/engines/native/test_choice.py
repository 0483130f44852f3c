"""The native engine scores artifacts with a plan as ONNX Runtime does; without plan or library, ONNX Runtime scores."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.contract.artifact import (
    FILES,
    OPTIONAL_FILES,
    SCORE,
    Artifact,
    load_artifact,
    save_artifact,
)
from models.contract.plan import PLAN, plan_to_bytes
from models.contract.schema import UNKNOWN
from service.runtime.encoder import Encoder
from service.runtime.engines.engine import EngineSlate
from service.runtime.engines.onnxruntime import OnnxRuntimeEngine
from service.runtime.scorer import Scorer
from tests.builds import Builds
from tests.cases import Case
from tests.service.runtime.engines.native.plans import LIMIT, probabilities

ITEMS = Case("lrea", "items")


@pytest.fixture(autouse=True)
def compiled(native_library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ABSORB_NATIVE_LIBRARY", str(native_library))


def changed(artifact: Artifact, root: Path, contents: Mapping[str, bytes | None]) -> Artifact:
    """The artifact with other files; None leaves one out."""
    names = [name for name in (*FILES, *OPTIONAL_FILES) if name in artifact.manifest.files]
    files: dict[str, bytes | None] = {name: artifact.read(name) for name in names}
    files |= contents
    kept = {name: raw for name, raw in files.items() if raw is not None}
    return save_artifact(root, artifact.manifest, kept)


@pytest.mark.parametrize("label", ["items", "activity"])
@pytest.mark.parametrize("wanted", ["auto", "native"])
def test_an_artifact_with_a_plan_is_scored_by_the_native_engine(
    builds: Builds, label: str, wanted: str
):
    choice = Scorer(builds.artifact(Case("lrea", label)), 1, wanted).choice
    assert choice.engine.name == "native", choice.refused


def test_the_engine_scores_users_as_onnx_runtime_does(builds: Builds):
    artifact = builds.artifact(ITEMS)
    native = Scorer(artifact, 1, "native").choice.engine
    schema, rng = artifact.manifest.schema, np.random.default_rng(0)
    onnxruntime = OnnxRuntimeEngine(artifact.graph(SCORE), schema.recent_length, 1)
    encoder = Encoder(artifact, 1)
    slates = [
        EngineSlate(
            encoder.random_state(length, rng) if length else encoder.cold_start(),
            rng.integers(0, schema.num_items, recent),
            np.array([rng.integers(UNKNOWN, field.size) for field in schema.context_fields]),
            rng.integers(0, schema.num_items, candidates),
            np.zeros((candidates, 0), np.int64),
        )
        for length in (0, 1, 5, schema.history_length)
        for recent in (0, 1, 9)
        for candidates in (1, 50, 1000)
    ]
    logits = native.score_many(slates)
    for slate, got in zip(slates, logits, strict=True):
        (expected,) = onnxruntime.score_many([slate])
        assert np.abs(probabilities(got) - probabilities(expected)).max() <= LIMIT


def refused(artifact: Artifact) -> tuple[str, str]:
    """Reason and sentence of an artifact that ONNX Runtime has to score."""
    choice = Scorer(artifact, 1, "native").choice
    assert choice.engine.name == "onnxruntime"
    return choice.reason, choice.refused["native"]


def test_without_a_plan_onnx_runtime_scores(builds: Builds, tmp_path: Path):
    artifact = changed(builds.artifact(ITEMS), tmp_path, {PLAN: None})
    assert refused(artifact) == (
        "native: no plan",
        "plan: the artifact of model 'lrea' has none",
    )


def test_a_torn_plan_is_refused(builds: Builds, tmp_path: Path):
    whole = builds.artifact(ITEMS).read(PLAN)
    artifact = changed(builds.artifact(ITEMS), tmp_path, {PLAN: whole[:-5]})
    reason, sentence = refused(artifact)
    assert reason == "native: plan"
    assert sentence.startswith("plan: not a safetensors file")


@pytest.mark.parametrize("damage", ["cut", "flipped", "removed"])
def test_without_the_plan_that_the_manifest_names_the_artifact_loads_and_onnx_runtime_scores(
    builds: Builds, tmp_path: Path, damage: str
):
    """The file is damaged after it was written, so its hash is not the manifest's."""
    artifact = changed(builds.artifact(ITEMS), tmp_path, {})
    path = artifact.file(PLAN)
    raw = bytearray(path.read_bytes())
    path.unlink()
    if damage == "flipped":
        raw[len(raw) // 2] ^= 1
    if damage != "removed":
        path.write_bytes(raw[:-5] if damage == "cut" else raw)

    reason, sentence = refused(load_artifact(tmp_path, artifact.artifact_id))

    assert reason == "native: plan"
    assert str(path) in sentence
    assert ("is missing" if damage == "removed" else "has hash") in sentence


def test_the_plan_of_another_artifact_is_refused(builds: Builds, tmp_path: Path):
    other = builds.artifact(Case("lrea", "activity")).read(PLAN)
    reason, sentence = refused(changed(builds.artifact(ITEMS), tmp_path, {PLAN: other}))
    assert reason == "native: plan"
    assert sentence.startswith("plan: score_sha256: got")


def test_a_plan_that_scores_otherwise_never_serves(builds: Builds, tmp_path: Path):
    plan = builds.artifact(ITEMS).plan()
    assert plan is not None
    shifted = replace(plan, tensors={**plan.tensors, "out_bias": plan.tensors["out_bias"] + 0.01})
    artifact = changed(builds.artifact(ITEMS), tmp_path, {PLAN: plan_to_bytes(shifted)})
    assert refused(artifact)[0] == "native: differs"


def test_without_the_library_onnx_runtime_scores(
    builds: Builds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("ABSORB_NATIVE_LIBRARY", str(tmp_path / "absent.so"))
    reason, sentence = refused(builds.artifact(ITEMS))
    assert reason == "native: no library"
    assert "absent.so does not exist" in sentence


def test_a_library_that_does_not_load_is_refused(
    builds: Builds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "torn.so").write_bytes(b"\x7fELF")
    monkeypatch.setenv("ABSORB_NATIVE_LIBRARY", str(tmp_path / "torn.so"))
    reason, sentence = refused(builds.artifact(ITEMS))
    assert reason == "native: library"
    assert "torn.so is torn" in sentence
