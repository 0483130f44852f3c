"""A pointer that no builder writes keeps its own model where it is, and every other model follows on."""

import logging
import time
import tracemalloc
from dataclasses import replace

import pytest

from loadtest.chaos.faults.hostile_pointers import DEEP, HUGE, LONG_BYTES, hostile_pointers
from models.contract.generation import MAX_MODELS, MODELS_KEY, Pointer, pointer_key
from service.generations.serving import Loader
from tests.service.toy import Toy
from tests.service.world import World

pytestmark = pytest.mark.anyio
OLD, NEW = Toy(seed=1), Toy(seed=2)
BEFORE, AFTER = "alpha", "zeta"
"""Models whose pointers are read before and after that of `toy`."""


async def test_every_hostile_pointer_leaves_its_model_serving_and_others_follow(world: World):
    kept = world.publish(OLD)
    for model in (BEFORE, AFTER):
        world.publish(OLD, model)
    good = Pointer(kept, None).to_bytes()
    async with world.service() as service:
        for name, raw in hostile_pointers(good):
            world.put(pointer_key("toy"), raw)
            published = [world.publish(OLD, model, states={}) for model in (BEFORE, AFTER)]
            await service.follower.poll()
            serving = service.selection.serving
            assert [serving[g.model].generation for g in published] == published, name
            assert serving["toy"].generation == kept, name
            assert service.selection.failure("toy"), name
            metrics = await service.client.get("/metrics")
            assert metrics.status_code == 200, name
        assert (await service.score(model="toy"))["generation"] == kept.name
        assert (await service.ready()).status_code == 200
        world.put(pointer_key("toy"), good)
        await service.follower.poll()
        assert service.selection.failure("toy") is None
        assert service.metric("absorb_load_failures_total", model="toy", error="GenerationError")


async def test_an_exception_of_one_model_is_logged_counted_and_kept_to_it(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    world.publish(OLD, "alpha")
    load = Loader.load

    async def fail(self: Loader, generation, old):
        if generation.model == "toy":
            raise RuntimeError("what nobody thought of")
        return await load(self, generation, old)

    monkeypatch.setattr(Loader, "load", fail)
    async with world.service() as service:
        world.publish(OLD)
        zeta = world.publish(OLD, "zeta")
        with caplog.at_level(logging.ERROR, "service.generations.follower"):
            await service.follower.poll()
        assert service.selection.serving.keys() == {"alpha", "zeta"}
        assert service.selection.serving["zeta"].generation == zeta
        assert service.metric("absorb_load_failures_total", model="toy", error="RuntimeError") == 1
        body = {"user_id": "ann", "candidates": ["i1"], "model": "toy"}
        refused = await service.client.post("/v1/score", json=body)
    assert refused.status_code == 503
    assert "RuntimeError" in refused.json()["error"]
    (line,) = [line for line in caplog.records if line.name.endswith("follower")]
    assert (line.__dict__["model"], line.exc_info is not None) == ("toy", True)


async def test_a_long_pointer_costs_no_more_memory_or_time_than_a_short_one(world: World):
    world.publish(OLD)
    async with world.service() as service:

        async def cost() -> tuple[int, float]:
            tracemalloc.start()
            began_s = time.process_time()
            await service.follower.poll()
            took_s = time.process_time() - began_s
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            return peak, took_s

        await cost()
        _, good_s = await cost()
        world.put(pointer_key("toy"), b"[" + b"0," * (LONG_BYTES // 2) + b"0]")
        peak, long_s = await cost()
        error = str(service.selection.failure("toy"))
    assert "expected at most" in error
    assert peak < 1 << 20
    assert long_s < 20 * good_s + 0.05


async def test_numbers_that_no_metric_can_hold_never_reach_the_metrics(world: World):
    generation = world.publish(OLD)
    async with world.service() as service:
        new = replace(generation, name="20260101T000000Z-ffffff")
        for hostile in (
            replace(new, created_s=HUGE),
            replace(new, as_of_s=HUGE),
            replace(new, num_users=HUGE),
        ):
            world.point(hostile)
            await service.follower.poll()
            assert "expected a whole number from 0" in str(service.selection.failure("toy"))
            assert (await service.client.get("/metrics")).status_code == 200
        assert service.selection.serving["toy"].generation == generation


async def test_names_that_cannot_be_models_are_left_out(world: World):
    kept = world.publish(OLD)
    with world.redis as client:
        client.sadd(MODELS_KEY, b"\xff", "A B", "x:y", "", "n" * 70, "../up")
    async with world.service() as service:
        assert service.selection.serving["toy"].generation == kept
        assert service.selection.problems == {}
        assert service.metric("absorb_poll_failures_total") == 0


async def test_too_many_models_are_not_read(world: World):
    kept = world.publish(OLD)
    async with world.service() as service:
        with world.redis as client:
            client.sadd(MODELS_KEY, *(f"m{n}" for n in range(MAX_MODELS)))
        await service.follower.poll()
        error = service.selection.cache_error
        answer = await service.score()
    assert error is not None
    assert f"got {MAX_MODELS + 1} models, expected at most {MAX_MODELS}" in error
    assert answer["generation"] == kept.name


async def test_a_pointer_of_another_type_is_a_problem_of_its_model_only(world: World):
    world.publish(OLD)
    world.publish(OLD, "zeta")
    async with world.service() as service:
        with world.redis as client:
            client.delete(pointer_key("toy"))
            client.rpush(pointer_key("toy"), *["[" * DEEP] * 3)
        new = world.publish(NEW, "zeta")
        await service.follower.poll()
        assert service.selection.serving["zeta"].generation == new
        assert "missing" in str(service.selection.failure("toy"))
