"""Bounds of what is loaded: a generation beyond them is refused with the reason; what is not published goes first."""

from pathlib import Path

import pytest

from models.contract.artifact import ENCODE, SCORE, VOCABULARY
from models.contract.generation import MODELS_KEY, Generation
from tests.service.toy import Toy
from tests.service.world import World

pytestmark = pytest.mark.anyio


def size_of(world: World, generation: Generation) -> int:
    folder: Path = world.artifacts / generation.artifact_id
    return sum((folder / name).stat().st_size for name in (ENCODE, SCORE, VOCABULARY))


async def test_a_generation_beyond_the_number_is_refused_and_others_follow_on(world: World):
    world.publish(Toy(seed=1), "alpha")
    world.publish(Toy(seed=1), "beta")
    async with world.service(max_artifacts=2) as service:
        world.publish(Toy(seed=1), "gamma")
        newer = world.publish(Toy(seed=2), "alpha")  # in place of what it has: there is room
        await service.follower.poll()
        problem = service.selection.failure("gamma")
        assert service.selection.serving.keys() == {"alpha", "beta"}
        assert service.selection.serving["alpha"].generation == newer
        body = {"user_id": "ann", "candidates": ["i1"], "model": "gamma"}
        refused = await service.client.post("/v1/score", json=body)
        await service.follower.unload("beta", "just now")
        await service.follower.load("gamma")
        assert service.selection.serving.keys() == {"alpha", "gamma"}
    assert problem is not None
    assert "needs 1 artifacts beside the 2 of other models, expected at most 2 in all" in problem
    assert "ABSORB_MAX_ARTIFACTS" in problem
    assert (refused.status_code, problem in refused.json()["error"]) == (503, True)


async def test_a_generation_beyond_the_bytes_is_refused(world: World):
    first = world.publish(Toy(seed=1), "alpha")
    limit = 2 * size_of(world, first) - 1
    async with world.service(max_artifact_bytes=limit) as service:
        world.publish(Toy(seed=1), "beta")
        await service.follower.poll()
        problem = service.selection.failure("beta")
        assert service.selection.serving["alpha"].generation == first
    assert problem is not None
    assert f"beside the {limit + 1 - size_of(world, first)} of other models" in problem
    assert f"expected at most {limit} in all (ABSORB_MAX_ARTIFACT_BYTES)" in problem


async def test_models_that_are_not_published_any_more_go_first_the_oldest_before(world: World):
    for model in ("alpha", "beta", "gamma"):
        world.publish(Toy(seed=1), model)
    async with world.service(max_artifacts=3) as service:
        with world.redis as client:
            client.srem(MODELS_KEY, "alpha", "beta")
        await service.follower.poll()
        assert service.selection.serving.keys() == {"alpha", "beta", "gamma"}  # there is room
        world.publish(Toy(seed=1), "zeta")
        await service.follower.poll()
        assert service.selection.serving.keys() == {"beta", "gamma", "zeta"}
        assert service.metric("absorb_generation_users", model="alpha") == 0
