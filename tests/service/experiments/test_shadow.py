"""Shadows: what they compare and count; they delay no request and no client sees their scores."""

import asyncio
import threading

import numpy as np
import pytest

from service.experiments.ranking import kendall_tau_b, top_overlap
from tests.service.toy import Toy
from tests.service.world import HISTORIES, RECENT, Running, World

pytestmark = pytest.mark.anyio
ONE, TWO = Toy(seed=1), Toy(seed=2)
CANDIDATES = [f"i{n}" for n in range(24)]
RULE = {"model": "one", "shadow": "two", "share": 1.0}
PAIR = {"model": "one", "shadow": "two"}


def ended(service: Running) -> dict[str, float]:
    return {
        result: service.metric("absorb_shadow_requests_total", **PAIR, result=result)
        for result in ("compared", "dropped", "failed")
    }


async def until(service: Running, **counts: int) -> None:
    """Run the event loop until this many shadow requests have ended."""
    for _ in range(500):
        if all(ended(service)[result] == count for result, count in counts.items()):
            return
        await asyncio.sleep(0.01)
    raise AssertionError(ended(service))


async def test_a_shadow_is_compared_and_never_returned(world: World):
    world.publish(ONE, "one")
    world.publish(TWO, "two")
    left, right = (
        np.array(toy.scores(toy.state(HISTORIES["ann"]), CANDIDATES, RECENT["ann"]))
        for toy in (ONE, TWO)
    )
    async with world.service(shadow=[RULE]) as service:
        answer = await service.score(candidates=CANDIDATES, model="one")
        await until(service, compared=1)
        sums = {
            name: service.metric(f"absorb_shadow_{name}_sum", **PAIR)
            for name in ("score_difference", "kendall_distance", "top_overlap")
        }
        lookups = service.metric("absorb_cache_lookups_total", model="one")
        others = service.metric("absorb_cache_lookups_total", model="two")
        apart = service.metric("absorb_shadow_cache_results_total", model="two", result="hit")
        assert (
            service.metric(
                "absorb_requests_total", route="/v1/score", method="POST", model="two", code="200"
            )
            == 0
        )
    assert answer["scores"] == pytest.approx(left.tolist(), abs=1e-6)
    assert sums["score_difference"] == pytest.approx(np.abs(left - right).mean(), abs=1e-6)
    tau = kendall_tau_b(left, right)
    assert tau is not None
    assert sums["kendall_distance"] == pytest.approx((1 - tau) / 2)
    assert sums["top_overlap"] == pytest.approx(top_overlap(left, right, 10))
    assert (lookups, others, apart) == (1, 0, 1)


async def test_a_shadow_gets_the_candidate_fields_that_it_has(world: World):
    one = Toy(seed=1, candidate_names=("display", "mailer"))
    two = Toy(seed=2, candidate_names=("display",))
    world.publish(one, "one")
    world.publish(two, "two")
    given = {"display": "front", "mailer": "cover"}
    columns = {"display": ["front"], "mailer": ["cover"]}
    left, right = (
        toy.scores(toy.state(HISTORIES["ann"]), ["i4"], RECENT["ann"], placed=known)[0]
        for toy, known in ((one, columns), (two, {"display": ["front"]}))
    )
    async with world.service(shadow=[RULE]) as service:
        await service.score(candidates=[{"id": "i4", "fields": given}], model="one")
        await until(service, compared=1)
        difference = service.metric("absorb_shadow_score_difference_sum", **PAIR)
    assert difference == pytest.approx(abs(left - right), abs=1e-6)


async def test_only_the_models_own_requests_and_only_a_share_are_shadowed(world: World):
    world.publish(ONE, "one")
    world.publish(TWO, "two")
    async with world.service(shadow=[{**RULE, "share": 1e-9}]) as service:
        for _ in range(5):
            await service.score(model="one")
        assert sum(ended(service).values()) == 0
    async with world.service(shadow=[RULE]) as service:
        await service.score(model="two")
        await asyncio.sleep(0.05)
        assert sum(ended(service).values()) == 0


async def test_a_slow_shadow_delays_no_request_and_drops_samples(world: World):
    world.publish(ONE, "one")
    world.publish(TWO, "two")
    release = threading.Event()
    async with world.service(shadow=[RULE]) as service:
        scorer = service.selection.pick("two").scorer
        score = scorer.score_many
        scorer.score_many = lambda *given: (release.wait(20), score(*given))[1]  # type: ignore[method-assign]
        for _ in range(5):
            await asyncio.wait_for(service.score(model="one"), 5)
        await until(service, dropped=3)
        assert ended(service)["compared"] == 0
        release.set()
        await until(service, compared=2)
        await service.score(model="one")
        await until(service, compared=3, dropped=3, failed=0)


async def test_a_failing_or_missing_shadow_only_changes_a_counter(world: World):
    world.publish(ONE, "one")
    async with world.service(shadow=[RULE]) as service:
        answer = await service.score(model="one")
        await until(service, failed=1)
    assert answer["model"] == "one"


async def test_a_shadow_gets_only_its_own_context_fields(world: World):
    world.publish(ONE, "one")
    world.publish(Toy(seed=2, context_names=("hour",)), "two")
    async with world.service(shadow=[RULE]) as service:
        await service.score(model="one", context={"hour": "day", "device": "app"})
        await until(service, compared=1, failed=0)


async def test_closing_cancels_running_shadows(world: World):
    world.publish(ONE, "one")
    world.publish(TWO, "two")
    async with world.service(shadow=[RULE]) as service:
        await service.score(model="one")
        await service.pipeline.close()
    assert ended(service)["compared"] <= 1
