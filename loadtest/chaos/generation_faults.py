"""Generations change, fast; and generations that must not serve."""

import json

from loadtest.chaos.scenario import Scenario
from loadtest.chaos.stage import Stage, damaged
from models.contract.artifact import SCORE
from models.contract.generation import pointer_key

FLIP_EVERY_S = 1.0
FLIPS = 10


async def flips(stage: Stage) -> None:
    """Both artifacts take turns, faster than anybody would publish."""
    for _ in range(FLIPS):
        async with stage.fault("generation flipped"):
            generation = await stage.publish()
        if not await stage.serves(generation):
            stage.problems.append(f"{generation.name} was published and does not serve")
        stage.memory.append(stage.service.resident_bytes())
        await stage.calm(FLIP_EVERY_S)


async def artifact_missing(stage: Stage) -> None:
    """The next generation's artifact is not there, then is: the old one serves meanwhile."""
    path = stage.artifact_dir / stage.next_artifact.artifact_id
    away = path.with_name("away")
    path.rename(away)
    async with stage.fault("artifact missing"):
        generation = await stage.publish()
        await _must_not_serve(stage, generation.name)
        away.rename(path)
    if not await stage.serves(generation):
        stage.problems.append("an artifact that came late is not picked up")


async def artifact_tampered(stage: Stage) -> None:
    """One bit of the next generation's graph is wrong, then right."""
    path = stage.artifact_dir / stage.next_artifact.artifact_id / SCORE
    good = path.read_bytes()
    path.write_bytes(damaged(good))
    async with stage.fault("artifact tampered with"):
        generation = await stage.publish()
        await _must_not_serve(stage, generation.name)
        path.write_bytes(good)
    if not await stage.serves(generation):
        stage.problems.append("an artifact that was mended is not picked up")


async def pointer_broken(stage: Stage) -> None:
    """The pointer holds no JSON, then points at nothing sensible, then at what it should."""
    key = pointer_key(stage.published.model)
    good = await stage.cache.get(key)
    elsewhere = json.loads(good)
    elsewhere["current"]["model"] = "another"
    async with stage.fault("pointer broken"):
        for bad in (b"{", json.dumps(elsewhere).encode(), b"[]"):
            await stage.cache.put({key: bad})
            await stage.calm(stage.fault_s / 3)
        await stage.cache.put({key: good})
    if not await stage.serves(await stage.publish()):
        stage.problems.append("a generation published over a mended pointer does not serve")


async def _must_not_serve(stage: Stage, name: str) -> None:
    seen = len(stage.asked)
    await stage.calm(stage.fault_s)
    if any(one.generation == name for one in stage.asked[seen:]):
        stage.problems.append(f"{name} serves, and must not")


GENERATION_FAULTS = (
    Scenario("flips", "a new generation every second or so", flips, rounds=12),
    Scenario("artifact-missing", "the next artifact is not there", artifact_missing),
    Scenario("artifact-tampered", "a bit of the next artifact is wrong", artifact_tampered),
    Scenario("pointer-broken", "the generation pointer is overwritten", pointer_broken),
)
