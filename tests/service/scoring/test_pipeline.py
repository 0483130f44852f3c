"""The pipeline through the service: overload, deadlines, and a cache that stops, hangs or is not there yet."""

import asyncio
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from models.contract.embedded_cache import start_server, stop_server
from models.contract.errors import CacheUnavailableError, RequestError
from service.query import Query
from service.store.redis import RedisStore
from tests.service.toy import Toy
from tests.service.world import HISTORIES, RECENT, Running, World, busy, post_score, until

pytestmark = pytest.mark.anyio
TOY = Toy()
# Without the host tier, which would hide that the cache is down (tests/service/state/test_lookup.py tests that).
NO_HOST_TIER: dict[str, Any] = {"host_cache_bytes": 0}
CANDIDATES = ["i1", "i5"]
COLD = pytest.approx(TOY.scores(TOY.state([]), CANDIDATES), abs=1e-6)
WARM = pytest.approx(TOY.scores(TOY.state(HISTORIES["ann"]), CANDIDATES, RECENT["ann"]), abs=1e-6)


async def test_a_request_ends_at_its_deadline_also_while_it_waits(world: World):
    world.publish(Toy())
    async with world.service(max_in_flight=1) as service:
        with busy(service):
            pending = [post_score(service, X_Request_Timeout_Ms="60") for _ in range(2)]
            answers = await asyncio.gather(*pending)
            # The first had a permit and waited for a thread, the second waited for the permit: both are free again.
            await until(lambda: service.metric("absorb_in_flight") == 0)
            late = service.metric("absorb_rejected_total", reason="deadline")
        after = await service.score()
    assert [answer.status_code for answer in answers] == [504, 504]
    assert answers[0].json()["error"].startswith("deadline exceeded: ")
    assert (late, after["degraded"]) == (2, False)


async def test_a_score_that_outlives_its_request_keeps_the_permit(world: World):
    world.publish(Toy())
    begun, end = threading.Event(), threading.Event()
    async with world.service(max_in_flight=1, max_queue=0) as service:
        (serving,) = service.selection.serving.values()
        score = serving.scorer.score_many

        def slow(*args: Any) -> Any:
            begun.set()
            end.wait(20)
            return score(*args)

        serving.scorer.score_many = slow  # type: ignore[method-assign,assignment]
        pending = post_score(service, X_Request_Timeout_Ms="1000")
        await until(begun.is_set)
        late = await pending
        during = await post_score(service)
        in_flight = service.metric("absorb_in_flight")
        end.set()
        await until(lambda: service.metric("absorb_in_flight") == 0)
        after = await service.score()
        lookups = service.metric("absorb_cache_lookups_total", model="toy")
    assert (late.status_code, during.status_code, in_flight) == (504, 429, 1)
    assert (after["degraded"], lookups) == (False, 2)


async def test_the_queue_is_bounded_and_the_urgent_go_first(world: World):
    world.publish(Toy())
    ended: list[str] = []
    async with world.service(max_in_flight=1, max_queue=2, max_queue_wait_ms=5000) as service:

        async def asked_as(name: str, priority: str) -> Any:
            answer = await post_score(service, X_Request_Priority=priority)
            ended.append(name)
            return answer.status_code, answer.headers.get("retry-after")

        with busy(service):
            tasks = {}
            for name, priority in [("first", "0"), ("low", "5"), ("usual", "0"), ("urgent", "1")]:
                tasks[name] = asyncio.create_task(asked_as(name, priority))
                await asyncio.sleep(0.05)
            depth = service.metric("absorb_queue_depth")
            full = await post_score(service)
            live = await service.client.get("/health/live")
            metrics = await service.client.get("/metrics")
        results = {name: await task for name, task in tasks.items()}
        counts = {
            reason: service.metric("absorb_rejected_total", reason=reason)
            for reason in ("pushed_out", "queue_full")
        }
    assert ended == ["low", "first", "urgent", "usual"]
    assert results["low"] == (429, "1")
    assert {results[name][0] for name in ("first", "urgent", "usual")} == {200}
    assert (depth, full.status_code, counts) == (2, 429, {"pushed_out": 1, "queue_full": 1})
    assert (live.status_code, metrics.status_code) == (200, 200)


async def test_the_wait_for_a_permit_is_limited(world: World):
    world.publish(Toy())
    async with world.service(max_in_flight=1, max_queue_wait_ms=30) as service:
        with busy(service):
            first = post_score(service)
            await asyncio.sleep(0.02)
            second = await post_score(service)
        assert (await first).status_code == 200
    assert second.status_code == 429
    assert "no permit became free in 30 ms" in second.json()["error"]


async def test_a_slow_cache_gets_half_of_the_time_at_most(world: World):
    world.publish(Toy())
    async with world.service(cache_timeout_ms=5000) as service:
        with world.redis as client:
            client.client_pause(1000)
            answer = await post_score(service, X_Request_Timeout_Ms="400")
            client.client_unpause()
    assert answer.status_code == 200
    expected = {"source": "unavailable", "tier": "redis", "as_of_s": None}
    assert answer.json()["state"] == expected


async def test_the_pipeline_itself_limits_the_candidates(world: World):
    world.publish(Toy())
    async with world.service(max_candidates=3) as service:
        pipeline = service.dependencies.pipeline
        for number in (0, 4):
            with pytest.raises(RequestError, match="expected 1 to 3 item ids"):
                await pipeline.score(Query("ann", ["i1"] * number, None, None, {}))
        answer = await pipeline.score(Query("ann", ["i1"] * 3, None, None, {}))
    assert len(answer.scores) == 3


async def test_scores_that_no_route_asked_for_are_counted_too(world: World):
    world.publish(TOY)
    async with world.service() as service:
        await service.pipeline.score(Query("ann", ["i1", "i2", "nosuch"], None, None, {}))
        candidates = service.metric("absorb_candidates_sum", model="toy")
        unknown = service.metric("absorb_unknown_candidates_total", model="toy")
    assert (candidates, unknown) == (3, 1)


async def test_a_user_is_looked_up_in_the_named_model(world: World):
    world.publish(TOY, "one")
    generation = world.publish(Toy(seed=2), "two")
    async with world.service(default_model="one") as service:
        stored = await service.pipeline.look_up("ann", "two")
    assert stored.serving.generation == generation
    assert (stored.record is not None, stored.problem) == (True, None)


async def test_a_hint_is_for_the_named_model_whatever_is_split(world: World):
    world.publish(TOY, "one")
    world.publish(Toy(seed=2), "two")
    split = {"home": {"weights": {"one": 1}, "default": True}}
    async with world.service(split=split) as service:
        assert await service.pipeline.prefetch("two", ["ann"], None, 0) == 1
        await service.dependencies.tiers.prefetcher.settle()
        tiers = [(await service.score(model=name))["state"]["tier"] for name in ("two", "one")]
    assert tiers == ["host", "redis"]


async def test_a_rehearsal_names_its_query(world: World):
    world.publish(TOY)
    query = Query("ann", CANDIDATES, None, None, {})
    async with world.service() as service:
        serving = service.selection.pick(None)
        with ThreadPoolExecutor(1) as threads:
            scores = await service.pipeline.rehearse(serving, query, threads)
        counted = service.metric("absorb_cache_lookups_total", model="toy")
    assert scores.query is query
    assert scores.scores == WARM
    assert counted == 0


@pytest.fixture
def stoppable(own_cache: Path, tmp_path: Path) -> World:
    """A world whose cache may be stopped."""
    return World(f"unix://{own_cache}/valkey.sock", tmp_path / "artifacts")


async def test_without_the_cache_users_are_scored_from_the_cold_start(
    stoppable: World, own_cache: Path
):
    stoppable.publish(TOY)
    async with stoppable.service(**NO_HOST_TIER) as service:
        warm = await service.score(candidates=CANDIDATES)
        await asyncio.to_thread(stop_server, own_cache)
        down = [await service.score(candidates=CANDIDATES) for _ in range(5)]
        await service.follower.poll()
        ready = await service.ready()
        user = await service.client.get("/v1/users/ann")
        await asyncio.to_thread(start_server, own_cache)
        again = await service.score(candidates=CANDIDATES)
        counted = service.metric("absorb_cache_results_total", model="toy", result="unavailable")
        polls = service.metric("absorb_poll_failures_total")
    assert warm["scores"] == again["scores"] == WARM
    assert again["state"]["source"] == "hit"
    for answer in down:
        assert answer["state"] == {"source": "unavailable", "tier": "redis", "as_of_s": None}
        assert answer["degraded"]
        assert str(own_cache) in answer["degraded_reason"]
        assert answer["scores"] == COLD
    assert (counted, polls, ready.status_code) == (5, 1, 200)
    assert (user.status_code, user.headers["retry-after"]) == (503, "1")


async def test_a_restart_under_requests_fails_none_of_them(stoppable: World, own_cache: Path):
    stoppable.publish(TOY)
    answers = []
    done = False
    async with stoppable.service(**NO_HOST_TIER, poll_interval_s=0.01) as service:

        async def ask() -> None:
            while not done:
                answers.append(await service.score(candidates=CANDIDATES))

        async with service.app.router.lifespan_context(service.app):
            asking = [asyncio.create_task(ask()) for _ in range(4)]
            await asyncio.to_thread(stop_server, own_cache)
            await until_source(service, "unavailable")
            await asyncio.to_thread(start_server, own_cache)
            await until_source(service, "hit")
            done = True
            await asyncio.gather(*asking)
    sources = {answer["state"]["source"] for answer in answers}
    assert sources == {"hit", "unavailable"}
    for answer in answers:
        assert answer["scores"] == (WARM if answer["state"]["source"] == "hit" else COLD)


async def until_source(service: Running, source: str) -> Any:
    """The first answer with this source."""
    while (answer := await service.score(candidates=CANDIDATES))["state"]["source"] != source:
        await asyncio.sleep(0.01)
    return answer


async def test_a_cache_that_hangs_is_not_waited_for(stoppable: World, own_cache: Path):
    stoppable.publish(TOY)
    pid = int((own_cache / "valkey.pid").read_text())
    async with stoppable.service(**NO_HOST_TIER, cache_timeout_ms=20) as service:
        await until_source(service, "hit")
        os.kill(pid, signal.SIGSTOP)
        try:
            pending = (service.score(candidates=CANDIDATES) for _ in range(30))
            hung = await asyncio.gather(*pending)
        finally:
            os.kill(pid, signal.SIGCONT)
        warm = await until_source(
            service, "hit"
        )  # a busy machine may take longer than 20 ms once more
    for answer in hung:
        assert answer["state"]["source"] == "unavailable"
        assert "no answer in 20 ms" in answer["degraded_reason"]
        assert answer["scores"] == COLD
    assert warm["scores"] == WARM


async def test_a_late_answer_is_never_given_to_the_next_user(stoppable: World, own_cache: Path):
    stoppable.publish(TOY)
    pid = int((own_cache / "valkey.pid").read_text())
    async with stoppable.service(**NO_HOST_TIER, cache_timeout_ms=20) as service:
        await until_source(service, "hit")
        os.kill(pid, signal.SIGSTOP)
        try:
            await service.score("ann", CANDIDATES)
        finally:
            os.kill(pid, signal.SIGCONT)
        bobs = [await service.score("bob", CANDIDATES) for _ in range(10)]
    bob = TOY.scores(TOY.state(HISTORIES["bob"]), CANDIDATES, RECENT["bob"])
    for answer in bobs:
        assert answer["state"]["source"] in {"hit", "unavailable"}
        if answer["state"]["source"] == "hit":
            assert answer["scores"] == pytest.approx(bob, abs=1e-6)


async def test_a_service_that_starts_without_its_cache_is_live_and_later_ready(
    stoppable: World, own_cache: Path
):
    stoppable.publish(TOY)
    await asyncio.to_thread(stop_server, own_cache)
    async with stoppable.service(**NO_HOST_TIER) as service:
        live = await service.client.get("/health/live")
        ready = await service.ready()
        refused = await service.client.post("/v1/score", json={"user_id": 1, "candidates": [1]})
        await asyncio.to_thread(start_server, own_cache)
        await service.follower.poll()
        back = await service.ready()
        answer = await service.score(candidates=CANDIDATES)
    assert (live.status_code, ready.status_code, refused.status_code) == (200, 503, 503)
    assert str(own_cache) in ready.json()["error"]
    assert (back.status_code, answer["state"]["source"]) == (200, "hit")


async def test_a_wrong_password_is_an_unavailable_cache_that_names_no_password(stoppable: World):
    store = RedisStore(stoppable.url.replace("unix://", "unix://:wrong@"), 2.0)
    with stoppable.redis as client:
        client.ping()
        client.config_set("requirepass", "right")
        try:
            with pytest.raises(CacheUnavailableError) as caught:
                await store.read("key")
        finally:
            client.config_set("requirepass", "")
            await store.close()
    assert "wrong" not in str(caught.value)
    assert "invalid" in str(caught.value)
