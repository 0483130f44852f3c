"""Faults of generations: frequent changes, and generations that must not serve."""

import json
import time

from loadtest.chaos.environment import Environment, damaged
from loadtest.chaos.faults.hostile_pointers import hostile_pointers
from loadtest.chaos.http_client import fetch, get
from loadtest.chaos.memory import RETURNED
from loadtest.chaos.scenario import Scenario
from loadtest.chaos.verdict import RECOVERY_LIMIT_S
from models.contract.artifact import SCORE
from models.contract.generation import pointer_key

FLIP_EVERY_S = 1.0
FLIPS = 10
WARM_UP_FLIPS = 10
"""Memory grows by some 4 % in these and is flat after them."""
OTHER = "other"
"""A second model: its pointer stays good."""
OTHER_EVERY = 15
"""Hostile pointers between two publishes of the second model."""
ALL_FROM_S = 2.0
"""Length of a fault in a whole run, where every hostile pointer is tried; a quick run tries one of five."""
SEEN_WITHIN_S = 0.15
"""The service reads the pointers every 0.1 s."""


async def flips(environment: Environment) -> None:
    """Publish both artifacts in turn, about once a second."""
    for _ in range(FLIPS):
        async with environment.fault("generation flipped"):
            generation = await environment.publish()
        if not await environment.serves(generation):
            environment.problems.append(f"{generation.name} was published and does not serve")
        environment.memory.append(environment.service.resident_bytes())
        await environment.calm(FLIP_EVERY_S)


async def artifact_missing(environment: Environment) -> None:
    """The next generation's artifact is missing at first: the old generation must serve until it is there."""
    path = environment.artifact_dir / environment.next_artifact.artifact_id
    away = path.with_name("away")
    path.rename(away)
    async with environment.fault("artifact missing"):
        generation = await environment.publish()
        await _must_not_serve(environment, generation.name)
        away.rename(path)
    if not await environment.serves(generation):
        environment.problems.append("an artifact that came late is not picked up")


async def artifact_tampered(environment: Environment) -> None:
    """One bit of the next generation's graph is flipped at first."""
    path = environment.artifact_dir / environment.next_artifact.artifact_id / SCORE
    good = path.read_bytes()
    path.write_bytes(damaged(good))
    async with environment.fault("artifact tampered with"):
        generation = await environment.publish()
        await _must_not_serve(environment, generation.name)
        path.write_bytes(good)
    if not await environment.serves(generation):
        environment.problems.append("an artifact that was mended is not picked up")


async def pointer_broken(environment: Environment) -> None:
    """The pointer holds no JSON, then another model's generation, then a list, then the right value."""
    key = pointer_key(environment.published.model)
    good = await environment.cache.get(key)
    elsewhere = json.loads(good)
    elsewhere["current"]["model"] = "another"
    async with environment.fault("pointer broken"):
        for bad in (b"{", json.dumps(elsewhere).encode(), b"[]"):
            await environment.cache.put({key: bad})
            await environment.calm(environment.fault_s / 3)
        await environment.cache.put({key: good})
    if not await environment.serves(await environment.publish()):
        environment.problems.append("a generation published over a mended pointer does not serve")


async def pointer_hostile(environment: Environment) -> None:
    """Pointers that no builder writes, one after another, while another model is published: it must follow each time.

    The service must go on serving the model of the hostile pointers, and answer probes and scrapes.
    """
    key = pointer_key(environment.published.model)
    good = await environment.cache.get(key)
    hostile = [raw for _, raw in hostile_pointers(good)]
    every = 1 if environment.fault_s >= ALL_FROM_S else 5
    async with environment.fault("hostile pointers"):
        for number, raw in enumerate(hostile[::every]):
            await environment.cache.put({key: raw})
            await environment.calm(SEEN_WITHIN_S)
            if number % OTHER_EVERY == 0:
                await _other_must_follow(environment)
        await environment.cache.put({key: good})
    if not await environment.serves(await environment.publish()):
        environment.problems.append("a generation published after hostile pointers does not serve")


async def _other_must_follow(environment: Environment) -> None:
    artifact, records = environment.fixtures.artifacts[0], environment.fixtures.records[0]
    generation = await environment.cache.publish(OTHER, artifact, records, lambda _: None)
    deadline = time.monotonic() + RECOVERY_LIMIT_S
    while time.monotonic() < deadline:
        served = await fetch(environment.service.port, get("/v1/models"))
        if generation.name.encode() in served.body:
            break
        await environment.calm(SEEN_WITHIN_S)
    else:
        environment.problems.append(f"{generation.name} of another model does not serve")
    for path in ("/metrics", "/health/live", "/health/ready"):
        status = (await fetch(environment.service.port, get(path))).status
        if status != 200:
            environment.problems.append(f"{path} gave {status} beside a hostile pointer")


async def _must_not_serve(environment: Environment, name: str) -> None:
    seen = len(environment.outcomes)
    await environment.calm(environment.fault_s)
    if any(outcome.generation == name for outcome in environment.outcomes[seen:]):
        environment.problems.append(f"{name} serves, expected the generation before")


GENERATION_FAULTS = (
    Scenario(
        "flips",
        "a new generation every second or so",
        flips,
        rounds=12,
        quick_rounds=2,
        settings=RETURNED,
        warm_up=WARM_UP_FLIPS,
    ),
    Scenario("artifact-missing", "the next artifact is missing", artifact_missing),
    Scenario("artifact-tampered", "a bit of the next artifact is flipped", artifact_tampered),
    Scenario("pointer-broken", "the generation pointer is overwritten", pointer_broken),
    Scenario("pointer-hostile", "pointers that no builder writes", pointer_hostile, rounds=1),
)
