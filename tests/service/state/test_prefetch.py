"""Prefetching users: bounded, counted, and without delaying scores."""

import asyncio
from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from models.contract.errors import CacheUnavailableError
from service.state.counters import TierCounts
from service.state.local_cache import HostTier
from service.state.open_reads import OpenReads
from service.state.prefetch import BATCH, MAX_QUEUED, NUM_WORKERS, Prefetcher
from tests.service.state.test_counters import SERVING, ScriptedStore
from tests.service.toy import Toy
from tests.service.world import HISTORIES, Running, World, busy, post_score, until

pytestmark = pytest.mark.anyio
TOY = Toy()


async def test_a_prefetched_user_is_scored_from_memory(world: World):
    generation = world.publish(TOY)
    world.put(generation.key("bob"), b"no record")
    async with world.service() as service:
        body = {"user_ids": ["ann", "bob", "carl", "ann", 7]}
        response = await service.client.post("/v1/prefetch", json=body)
        await service.dependencies.tiers.prefetcher.settle()
        again = await service.client.post("/v1/prefetch", json={"user_ids": ["ann"]})
        await service.dependencies.tiers.prefetcher.settle()
        reads = service.metric("absorb_cache_tier_lookups_total", tier="redis")
        answer = await service.score("ann")
        cache = (await service.client.get("/v1/cache")).json()
    assert (response.status_code, again.status_code) == (202, 202)
    assert response.json() == {"accepted": 5, "dropped": 0}
    assert answer["state"]["tier"] == "host"
    assert reads == 0
    outcomes = {"loaded": 1, "present": 2, "absent": 2, "failed": 1, "dropped": 0}
    assert cache["prefetch"] == {"hinted": 6, "waiting": 0, **outcomes}


async def test_users_beyond_the_queue_are_dropped_and_counted(world: World):
    world.publish(TOY)
    async with world.service() as service:
        tiers = service.dependencies.tiers
        serving = service.selection.pick(None)
        accepted = tiers.prefetcher.accept([(serving, f"u{n}") for n in range(MAX_QUEUED + 5)])
        dropped = service.metric("absorb_prefetched_users_total", outcome="dropped")
        await tiers.prefetcher.settle()
        absent = service.metric("absorb_prefetched_users_total", outcome="absent")
    assert (accepted, dropped, absent) == (MAX_QUEUED, 5, MAX_QUEUED)


async def test_a_prefetch_uses_the_same_experiment_as_the_score(world: World):
    for model in ("one", "two"):
        world.publish(TOY, model)
    split = {"test": {"weights": {"one": 1, "two": 1}, "default": True}}
    async with world.service(split=split) as service:
        await service.client.post("/v1/prefetch", json={"user_ids": list(HISTORIES)})
        await service.dependencies.tiers.prefetcher.settle()
        assigned = service.metric("absorb_experiment_assignments_total")
        answers = [await service.score(user) for user in HISTORIES]
        loaded = service.metric("absorb_prefetched_users_total", outcome="loaded")
    assert {one["model"] for one in answers} == {"one", "two"}
    assert [one["state"]["tier"] for one in answers] == ["host"] * len(HISTORIES)
    assert (loaded, assigned) == (len(HISTORIES), 0)


def hint(service: Running, *users: str, **headers: str) -> "asyncio.Task[httpx.Response]":
    """Start a prefetch request; the header `X-Name` is the argument `X_Name`."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    body = {"user_ids": list(users)}
    return asyncio.create_task(service.client.post("/v1/prefetch", json=body, headers=names))


async def test_a_full_service_refuses_hints_as_it_does_scores(world: World):
    world.publish(TOY)
    async with world.service(max_in_flight=1, max_queue=0) as service:
        with busy(service):
            score = post_score(service)
            await until(lambda: service.metric("absorb_in_flight") == 1)
            refused = await hint(service, "ann")
        await score
        accepted = await hint(service, "ann")
        rejected = service.metric("absorb_rejected_total", reason="queue_full")
        hinted = (await service.client.get("/v1/cache")).json()["prefetch"]["hinted"]
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert (accepted.status_code, rejected, hinted) == (202, 1, 1)


async def test_a_waiting_hint_makes_room_for_a_score(world: World):
    world.publish(TOY)
    async with world.service(max_in_flight=1, max_queue=1, max_queue_wait_ms=9000) as service:
        with busy(service):
            first = post_score(service)
            await until(lambda: service.metric("absorb_in_flight") == 1)
            waiting = hint(service, "ann")
            await until(lambda: service.metric("absorb_queue_depth") == 1)
            second = post_score(service)
            pushed_out = await waiting
        scores = [(await score).status_code for score in (first, second)]
    assert (pushed_out.status_code, scores) == (429, [200, 200])


async def test_a_hint_has_a_deadline_and_a_priority(world: World):
    world.publish(TOY)
    async with world.service(max_in_flight=1, max_queue_wait_ms=9000) as service:
        with busy(service):
            score = post_score(service)
            await until(lambda: service.metric("absorb_in_flight") == 1)
            late = await hint(service, "ann", X_Request_Timeout_Ms="50")
        await score
        wrong = await hint(service, "ann", X_Request_Priority="high")
        urgent = await hint(service, "ann", X_Request_Priority="1")
    assert [answer.status_code for answer in (late, wrong, urgent)] == [504, 400, 202]


async def test_hinted_users_are_not_read_while_requests_wait(world: World):
    world.publish(TOY)
    async with world.service(max_in_flight=1, max_queue_wait_ms=9000) as service:
        tiers, serving = service.dependencies.tiers, service.selection.pick(None)
        with busy(service):
            scores = [post_score(service), post_score(service)]
            await until(lambda: service.metric("absorb_queue_depth") == 1)
            tiers.prefetcher.accept([(serving, "bob")])
            await asyncio.sleep(0.05)
            while_waiting = tiers.host.holds(serving, "bob")
        await asyncio.gather(*scores)
        await tiers.prefetcher.settle()
        afterwards = tiers.host.holds(serving, "bob")
    assert (while_waiting, afterwards) == (False, True)


class SurprisingError(Exception):
    """An error that no code handles."""


@pytest.mark.parametrize("error", [CacheUnavailableError("cache", "down"), SurprisingError("why")])
async def test_a_failed_prefetch_is_counted(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
):
    world.publish(TOY)

    async def fail(_: object) -> Any:
        raise error

    async with world.service() as service:
        monkeypatch.setattr(service.dependencies.tiers.store, "read_many", fail)
        response = await service.client.post("/v1/prefetch", json={"user_ids": list(HISTORIES)})
        await service.dependencies.tiers.prefetcher.settle()
        answer = await service.score("ann")
        cache = (await service.client.get("/v1/cache")).json()["prefetch"]
    assert response.status_code == 202
    assert answer["state"]["source"] == "hit"
    assert (cache["failed"], cache["waiting"]) == (len(HISTORIES), 0)
    # A cache that is down is counted; only a defect of the program leaves a traceback in the log.
    logged = [one for one in caplog.records if one.message == "prefetch failed"]
    assert len(logged) == isinstance(error, SurprisingError)


async def test_a_user_of_a_node_that_is_down_fails_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    """As the client of a cluster answers: an error for the keys of that node only."""
    world.publish(TOY)
    async with world.service() as service:
        tiers = service.dependencies.tiers
        read_many = tiers.store.read_many

        async def lose_the_first(keys: Sequence[str]) -> list[Any]:
            return [CacheUnavailableError("cache", "down"), *(await read_many(keys))[1:]]

        monkeypatch.setattr(tiers.store, "read_many", lose_the_first)
        await service.client.post("/v1/prefetch", json={"user_ids": list(HISTORIES)})
        await tiers.prefetcher.settle()
        cache = (await service.client.get("/v1/cache")).json()["prefetch"]
    assert (cache["failed"], cache["loaded"]) == (1, len(HISTORIES) - 1)
    assert (cache["waiting"], cache["hinted"]) == (0, len(HISTORIES))


async def test_a_prefetch_for_a_replaced_generation_is_dropped(world: World):
    world.publish(TOY)
    async with world.service() as service:
        old = service.selection.pick(None)
        world.publish(Toy(seed=2))
        await service.follower.poll()
        service.dependencies.tiers.prefetcher.accept([(old, "ann")])
        await service.dependencies.tiers.prefetcher.settle()
        cache = (await service.client.get("/v1/cache")).json()
    assert cache["prefetch"]["dropped"] == 1
    assert cache["host"]["users"] == 0


def prefetcher_over(store: ScriptedStore, counts: TierCounts) -> Prefetcher:
    host = HostTier(1 << 20, 50.0, 20.0, lambda: 0.0)
    host.open(SERVING)
    return Prefetcher(store, host, OpenReads(), counts, lambda: False)


async def test_few_round_trips_are_made_at_the_same_time():
    store = ScriptedStore()
    prefetcher = prefetcher_over(store, TierCounts())
    for first in (0, 5 * BATCH):
        prefetcher.accept([(SERVING, f"u{n}") for n in range(first, first + 5 * BATCH)])
        for _ in range(10):
            await asyncio.sleep(0)
        assert len(store.pending) == NUM_WORKERS  # each asks for one key after another
    prefetcher.close()
    await prefetcher.settle()
    store.pending.clear()
    prefetcher.accept([(SERVING, "late")])  # the users before it are forgotten
    await asyncio.sleep(0)
    assert [key for key, _ in store.pending] == [SERVING.generation.key("late")]
    prefetcher.close()
    await prefetcher.settle()


class Forgetful(ScriptedStore):
    """A cache that answers for the first key only."""

    async def read_many(self, keys: Sequence[str]) -> list[bytes | None]:
        return [None]


async def test_users_without_an_answer_are_counted_as_failed():
    counts = TierCounts()
    prefetcher = prefetcher_over(Forgetful(), counts)
    prefetcher.accept([(SERVING, user) for user in ("ann", "bob", "carl")])
    await prefetcher.settle()
    assert (counts.outcomes["absent"], counts.outcomes["failed"]) == (1, 2)


BAD: list[tuple[Any, int, str]] = [
    ({}, 400, "user_ids: got nothing"),
    ({"user_ids": "ann"}, 400, "user_ids: got 'ann', expected a list of 1 to 1000 user ids"),
    ({"user_ids": []}, 400, "user_ids: got 0 of them, expected a list of 1 to 1000 user ids"),
    ({"user_ids": ["x"] * 1001}, 400, "user_ids: got 1001 of them"),
    ({"user_ids": ["ann", 1.5]}, 400, "user_ids[1]: got 1.5, expected a string or an integer"),
    ({"user_ids": ["ann", ""]}, 400, "user_ids[1]"),
    ({"user_ids": ["ann"], "modle": "toy"}, 400, "did you mean"),
    ({"user_ids": ["ann"], "model": "nosuch"}, 404, "nosuch"),
]


@pytest.mark.parametrize(("body", "status", "text"), BAD)
async def test_a_wrong_prefetch_request_is_rejected_with_a_reason(
    world: World, body: Any, status: int, text: str
):
    world.publish(TOY)
    async with world.service() as service:
        response = await service.client.post("/v1/prefetch", json=body)
    assert response.status_code == status
    assert text in response.json()["error"]


async def test_the_cache_route_shows_sizes_and_lookup_results(world: World):
    world.publish(TOY)
    generation = world.publish(TOY, "other")
    async with world.service() as service:
        for user in ("ann", "ann", "nobody"):
            await service.score(user, model="other")
        body = (await service.client.get("/v1/cache")).json()
        document = (await service.client.get("/openapi.json")).json()
    host = {"hit": 1, "miss": 2, "stale": 0, "corrupt": 0, "error": 0}
    redis = {"hit": 1, "miss": 1, "stale": 0, "corrupt": 0, "error": 0}
    device = dict.fromkeys(host, 0)
    tiers = [
        {"tier": "device", "lookups": 0, "results": device},
        {"tier": "host", "lookups": 3, "results": host},
        {"tier": "redis", "lookups": 2, "results": redis},
    ]
    assert body["tiers"] == tiers
    assert body["host"]["limit_bytes"] == 256 << 20
    assert (body["host"]["users"], body["host"]["absent_users"]) == (1, 1)
    other, toy = body["generations"]
    assert (other["model"], other["generation"]) == ("other", generation.name)
    assert (other["tiers"], other["num_bytes"]) == (tiers, body["host"]["num_bytes"])
    assert (toy["users"], toy["num_bytes"]) == (0, 0)
    assert set(document["components"]["schemas"]["CacheResponse"]["properties"]) == set(body)
