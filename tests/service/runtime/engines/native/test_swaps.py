"""Generations scored by the native engine are swapped under requests, and what no longer serves is freed."""

import asyncio
import shutil
import tracemalloc
import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from models.contract.artifact import Artifact
from service.runtime.scorer import Scorer, Slate
from service.scoring.compute import unless_error
from tests.builds import Builds
from tests.cases import Case
from tests.service.runtime.engines.native.plans import LIMIT
from tests.service.world import Running, World

NUM_SWAPS = 12
NUM_LOADS = 40
MODEL = "lrea"


@pytest.fixture(autouse=True)
def compiled(native_library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ABSORB_NATIVE_LIBRARY", str(native_library))


@pytest.fixture
def artifacts(builds: Builds) -> list[Artifact]:
    """Two artifacts of different models over one vocabulary."""
    return [builds.artifact(Case(MODEL, label)) for label in ("items", "activity")]


def cold_scores(artifact: Artifact, items: Sequence[str]) -> list[float]:
    """Scores of a user without a record, by ONNX Runtime."""
    scorer = Scorer(artifact, 1, "onnxruntime")
    context = artifact.vocabulary.context_ids({})
    slate = Slate(scorer.cold_start, None, np.zeros(0, np.int64), context, items, {}, {})
    (result,) = scorer.score_many([slate])
    return [float(p) for p in unless_error(result).scores]


def copy_to(world: World, artifacts: Sequence[Artifact]) -> None:
    for artifact in artifacts:
        shutil.copytree(artifact.path, world.artifacts / artifact.artifact_id)


def num_fallbacks(service: Running) -> float:
    labels = {"model": MODEL, "engine": "native"}
    reasons = ("error", "not finite", "limits")
    metric = "absorb_engine_fallbacks_total"
    return sum(service.metric(metric, **labels, reason=reason) for reason in reasons)


@pytest.mark.anyio
async def test_every_answer_during_swaps_is_the_native_engines_of_its_generation(
    world: World, artifacts: list[Artifact]
):
    copy_to(world, artifacts)
    items = artifacts[0].vocabulary.items[:20]
    expected = {one.artifact_id: cold_scores(one, items) for one in artifacts}
    first, second = expected.values()
    assert np.abs(np.subtract(first, second)).max() > 100 * LIMIT
    artifact_of: dict[str, str] = {}
    answers: list[tuple[str, list[float]]] = []

    def publish(artifact: Artifact) -> None:
        generation = world.new_generation(MODEL, artifact)
        artifact_of[generation.name] = artifact.artifact_id
        world.point(generation)

    publish(artifacts[0])
    async with world.service() as service:

        async def score() -> None:
            while len(artifact_of) <= NUM_SWAPS:
                answer = await service.score("nobody", items, model=MODEL)
                answers.append((answer["generation"], answer["scores"]))

        async def swap() -> None:
            for number in range(NUM_SWAPS):
                count = len(answers)
                publish(artifacts[(number + 1) % 2])
                await service.follower.poll()
                (model,) = (await service.client.get("/v1/models")).json()["models"]
                assert model["engine"]["name"] == "native", model["engine"]
                while len(answers) < count + 4 and len(artifact_of) <= NUM_SWAPS:
                    await asyncio.sleep(0)

        await asyncio.gather(swap(), *(score() for _ in range(3)))
        assert service.metric("absorb_swaps_total", model=MODEL) == NUM_SWAPS + 1
        assert num_fallbacks(service) == 0

    assert len({generation for generation, _ in answers}) >= NUM_SWAPS
    for generation, scores in answers:
        np.testing.assert_allclose(scores, expected[artifact_of[generation]], atol=LIMIT)


def test_an_engine_that_no_longer_serves_is_freed_at_once(artifacts: list[Artifact]):
    scorers = [Scorer(artifact, 1, "native") for artifact in artifacts]
    engines = [weakref.ref(scorer.choice.engine) for scorer in scorers]
    assert [scorer.choice.engine.name for scorer in scorers] == ["native"] * 2
    del scorers
    assert [engine() for engine in engines] == [None, None]


def test_memory_is_flat_over_loads(artifacts: list[Artifact]):
    """numpy's memory, which holds plans; `absorb chaos swaps` watches all of the process, over 1,000 swaps."""
    artifact = artifacts[0]
    plan = artifact.plan()
    assert plan is not None
    plan_bytes = sum(tensor.nbytes for tensor in plan.tensors.values())
    for _ in range(3):
        Scorer(artifact, 1, "native")
    tracemalloc.start()
    try:
        for _ in range(NUM_LOADS):
            Scorer(artifact, 1, "native")
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak > plan_bytes
    assert kept < NUM_LOADS * plan_bytes / 4
