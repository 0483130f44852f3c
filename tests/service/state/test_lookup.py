"""Lookups through the host tier and a real cache: what is stored, for how long, its size; shared reads."""

import asyncio
import gc
import threading
import tracemalloc
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.contract.embedded_cache import stop_server
from models.contract.state_spec import RECORD_DTYPES, RecordDtype, TensorSpec
from service.generations.serving import Serving
from service.state.byte_lru import ByteLru
from service.state.cached_user import CachedUser, footprint, read_user
from service.state.local_cache import ABSENT
from service.state.lookup import SingleFlight
from tests.service.state.test_counters import SERVING
from tests.service.toy import AS_OF_S, Toy, listed_score_graph
from tests.service.world import HISTORIES, RECENT, Running, World, record_of

pytestmark = pytest.mark.anyio
TOY, NEW = Toy(), Toy(seed=2)
CANDIDATES = ["i1", "i5"]


def scores_of(toy: Toy, user: str) -> Any:
    known = toy.scores(toy.state(HISTORIES[user]), CANDIDATES, RECENT[user])
    return pytest.approx(known, abs=1e-6)


def state(source: str, tier: str) -> dict[str, object]:
    as_of_s = AS_OF_S if source in {"hit", "stale"} else None
    return {"source": source, "tier": tier, "as_of_s": as_of_s}


@dataclass
class Later:
    """A clock for the host tier."""

    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


async def state_of(service: Running, user: str = "ann") -> Any:
    return (await service.score(user, CANDIDATES))["state"]


async def test_a_record_in_memory_is_used_while_the_cache_is_down(own_cache: Path, tmp_path: Path):
    world = World(f"unix://{own_cache}/valkey.sock", tmp_path / "artifacts")
    world.publish(TOY)
    async with world.service() as service:
        first = await service.score(candidates=CANDIDATES)
        await asyncio.to_thread(stop_server, own_cache)
        again = await service.score(candidates=CANDIDATES)
        other = await state_of(service, "bob")
    assert first["scores"] == again["scores"] == scores_of(TOY, "ann")
    assert first["state"] == state("hit", "redis")
    assert again["state"] == state("hit", "host")
    assert other == state("unavailable", "redis")


async def test_a_new_generation_is_used_at_once_and_the_old_one_is_freed(world: World):
    world.publish(TOY)
    async with world.service() as service:
        for user in HISTORIES:
            await service.score(user, CANDIDATES)
        full = service.dependencies.tiers.host.num_bytes
        world.publish(NEW)
        await service.follower.poll()
        await asyncio.sleep(0.01)
        empty = service.dependencies.tiers.host.num_bytes
        answer = await service.score(candidates=CANDIDATES)
    assert (full > 0, empty) == (True, 0)
    assert answer["state"] == state("hit", "redis")
    assert answer["scores"] == scores_of(NEW, "ann")


async def test_a_request_begun_before_the_swap_leaves_no_entry(world: World):
    world.publish(TOY)
    async with world.service() as service:
        old = service.selection.pick("toy")
        world.publish(NEW)
        await service.follower.poll()
        found = [await service.dependencies.tiers.states.find(old, "ann") for _ in range(2)]
    assert [(one.source, one.tier) for one in found] == [("hit", "redis")] * 2
    assert service.dependencies.tiers.host.num_bytes == 0


async def test_an_unloaded_model_is_freed(world: World):
    world.publish(TOY)
    async with world.service() as service:
        await service.score(candidates=CANDIDATES)
        await service.follower.unload("toy", "just now")
        await asyncio.sleep(0.01)
        body = (await service.client.get("/v1/cache")).json()
    assert body["host"]["num_bytes"] == body["host"]["users"] == 0
    assert body["generations"] == []


async def test_a_record_overwritten_in_place_is_seen_after_the_ttl(world: World):
    generation = world.publish(TOY)
    later = Later()
    async with world.service(host_cache_ttl_s=60) as service:
        service.dependencies.tiers.host.clock = later
        await service.score(candidates=CANDIDATES)
        artifact = service.selection.pick("toy").artifact
        world.put(generation.key("ann"), record_of("ann", TOY.state(["i9"]), artifact))
        later.now_s = 59.9
        kept = await service.score(candidates=CANDIDATES, recent=[])
        later.now_s = 60.0
        seen = await service.score(candidates=CANDIDATES, recent=[])
    assert kept["scores"] == pytest.approx(TOY.scores(TOY.state(HISTORIES["ann"]), CANDIDATES))
    assert seen["scores"] == pytest.approx(TOY.scores(TOY.state(["i9"]), CANDIDATES))
    assert (kept["state"], seen["state"]) == (state("hit", "host"), state("hit", "redis"))


async def test_an_absent_user_is_looked_up_again_after_the_ttl(world: World):
    generation = world.publish(TOY)
    later = Later()
    async with world.service(host_cache_absent_ttl_s=2) as service:
        service.dependencies.tiers.host.clock = later
        before = await state_of(service, "carl")
        artifact = service.selection.pick("toy").artifact
        world.put(generation.key("carl"), record_of("carl", TOY.state(["i9"]), artifact))
        kept = await state_of(service, "carl")
        later.now_s = 2.0
        seen = await state_of(service, "carl")
    assert (before, kept) == (state("miss", "redis"), state("miss", "host"))
    assert seen == state("hit", "redis")


async def test_a_corrupt_record_is_not_cached(world: World):
    generation = world.publish(TOY)
    good = world.get(generation.key("ann"))
    world.put(generation.key("ann"), b"no record")
    async with world.service() as service:
        broken = [await state_of(service) for _ in range(2)]
        world.put(generation.key("ann"), good)
        cured = await state_of(service)
    assert broken == [state("corrupt", "redis")] * 2
    assert cured == state("hit", "redis")


async def test_a_cached_record_becomes_stale(world: World):
    world.publish(TOY)
    async with world.service(stale_after_s=100) as service:
        fresh = await state_of(service)
        service.dependencies.tiers.states.clock = lambda: AS_OF_S + 101.0
        stale = await service.score(candidates=CANDIDATES)
    assert (fresh, stale["state"]) == (state("hit", "redis"), state("stale", "host"))
    assert stale["degraded_reason"] == "the user's record is 101 s old, more than 100"


async def test_a_host_tier_of_zero_bytes_is_off_and_not_counted(world: World):
    world.publish(TOY)
    async with world.service(host_cache_bytes=0) as service:
        states = [await state_of(service) for _ in range(2)]
        lookups = service.metric("absorb_cache_tier_lookups_total", tier="host")
        hint = await service.client.post("/v1/prefetch", json={"user_ids": ["ann", "bob"]})
    assert states == [state("hit", "redis")] * 2
    assert lookups == 0
    assert (hint.json()["accepted"], hint.json()["dropped"]) == (0, 2)


async def test_a_peek_finds_the_user_and_leaves_no_trace(world: World):
    world.publish(TOY)
    async with world.service() as service:
        tiers = service.dependencies.tiers
        serving = service.selection.pick("toy")
        ann, nobody = [await tiers.states.peek(serving, user) for user in ("ann", "nobody")]
        lookups = service.metric("absorb_cache_tier_lookups_total", tier="redis")
    assert (ann.source, ann.tier, nobody.source) == ("hit", "redis", "miss")
    for name, array in TOY.state(HISTORIES["ann"]).items():
        np.testing.assert_array_equal(ann.state[name], array)
    assert (tiers.host.num_bytes, lookups) == (0, 0)


@pytest.mark.parametrize(("cut", "source"), [(0, "hit"), (5, "corrupt")])
async def test_a_large_record_is_decoded_in_a_thread(
    world: World, monkeypatch: pytest.MonkeyPatch, cut: int, source: str
):
    key = world.publish(TOY).key("ann")
    raw = world.get(key)
    world.put(key, raw[: len(raw) - cut])
    threads: list[str] = []

    def read(*arguments: Any) -> Any:
        threads.append(threading.current_thread().name)
        return read_user(*arguments)

    monkeypatch.setattr("service.state.lookup.read_user", read)
    async with world.service(host_cache_bytes=0) as service:
        size = len(raw) - cut
        for limit in (size, size - 1):
            monkeypatch.setattr("service.state.lookup.DECODE_INLINE_BYTES", limit)
            assert await state_of(service) == state(source, "redis")
    main = threading.main_thread().name
    assert [thread == main for thread in threads] == [True, False]


async def test_concurrent_requests_for_one_user_read_the_cache_once(world: World):
    world.publish(TOY)
    async with world.service() as service:
        answers = await asyncio.gather(*(service.score(candidates=CANDIDATES) for _ in range(20)))
        reads = service.metric("absorb_cache_tier_lookups_total", tier="redis")
        joined = service.metric("absorb_cache_joined_reads_total")
        host = service.metric("absorb_cache_tier_results_total", tier="host", result="hit")
    assert all(one["scores"] == scores_of(TOY, "ann") for one in answers)
    assert reads == 1
    assert joined + host == 19


async def test_concurrent_callers_share_one_task_that_outlives_cancelled_ones():
    gate: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    runs = 0

    async def work() -> int:
        nonlocal runs
        runs += 1
        return await gate

    flight: SingleFlight[str, int] = SingleFlight()
    waiters = [asyncio.create_task(flight.do("key", work)) for _ in range(3)]
    await asyncio.sleep(0)
    waiters[0].cancel()
    await asyncio.sleep(0)
    gate.set_result(7)
    assert await asyncio.gather(*waiters[1:]) == [7, 7]
    assert (runs, waiters[0].cancelled(), "key" in flight) == (1, True, False)


async def test_an_error_reaches_every_waiter_and_is_not_stored():
    runs = 0

    async def work() -> int:
        nonlocal runs
        runs += 1
        await asyncio.sleep(0)
        if runs == 1:
            raise OSError("broken")
        return runs

    flight: SingleFlight[str, int] = SingleFlight()
    waiting = (flight.do("key", work) for _ in range(3))
    failed = await asyncio.gather(*waiting, return_exceptions=True)
    assert [str(one) for one in failed] == ["broken"] * 3
    assert await flight.do("key", work) == 2


@pytest.mark.parametrize("turns", range(0, 24, 4))
async def test_lookups_of_cancelled_requests_add_up(world: World, turns: int):
    world.publish(TOY)
    async with world.service() as service:
        asking = [asyncio.create_task(service.score(user, CANDIDATES)) for user in HISTORIES]
        for _ in range(turns):
            await asyncio.sleep(0)
        for one in asking:
            one.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        await service.score("ann", CANDIDATES)
        add_up(service)


async def test_the_lookup_of_a_request_that_fails_later_counts(world: World):
    world.publish(TOY, score=listed_score_graph([0.0] * 4))
    async with world.service() as service:
        body = {"user_id": "ann", "candidates": ["i9"]}
        response = await service.client.post("/v1/score", json=body)
        assert response.status_code == 500
        assert service.metric("absorb_cache_lookups_total", model="toy") == 1
        assert service.metric("absorb_cache_results_total", model="toy", result="hit") == 1
        add_up(service)


def add_up(service: Running) -> None:
    """Every lookup has one result, of each tier and of each model."""
    samples = [one for metric in service.telemetry.registry.collect() for one in metric.samples]
    for name, label in (("absorb_cache_tier", "tier"), ("absorb_cache", "model")):
        lookups = {
            one.labels[label]: one.value for one in samples if one.name == f"{name}_lookups_total"
        }
        results = dict.fromkeys(lookups, 0.0)
        for one in samples:
            if one.name == f"{name}_results_total":
                results[one.labels[label]] += one.value
        assert results == lookups


@pytest.mark.parametrize("dtype", RECORD_DTYPES)
def test_a_cached_user_owns_its_memory(dtype: RecordDtype):
    raw = record_of("ann", TOY.state(HISTORIES["ann"]), SERVING.artifact, dtype)
    user = read_user(raw, SERVING, "ann")
    for one in (user.recent, *user.state.values()):
        assert one.base is None
        assert one.flags.owndata
        assert one.flags.aligned


@pytest.mark.parametrize(
    ("num_tensors", "shape"),
    [
        (0, ()),
        (1, (3,)),
        (2, (50, 16)),
        (4, (3,)),
        (8, (2, 3)),
    ],
)
def test_the_size_of_an_entry_is_that_of_its_memory(num_tensors: int, shape: tuple[int, ...]):
    names = [TensorSpec(f"t{n}", shape).name for n in range(num_tensors)]
    lru: ByteLru[Serving, CachedUser] = ByteLru(1 << 40)
    lru.open(SERVING)
    gc.collect()
    tracemalloc.start()
    for number in range(1000):
        tensors = {name: np.zeros(shape, np.float32) for name in names}
        user = CachedUser(SERVING, AS_OF_S + number, np.zeros(3, np.int64), tensors)
        user_id = f"user-{number}"
        lru.put(SERVING, user_id, user, footprint(user_id, user), 1e6 + number)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 0.7 * lru.num_bytes < taken <= lru.num_bytes


def test_the_size_of_an_absent_users_entry_is_that_of_its_memory():
    lru: ByteLru[Serving, object] = ByteLru(1 << 40)
    lru.open(SERVING)
    gc.collect()
    tracemalloc.start()
    for number in range(2000):
        user_id = f"user-{number}"
        lru.put(SERVING, user_id, ABSENT, footprint(user_id, None), 1e6 + number)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 0.7 * lru.num_bytes < taken <= lru.num_bytes


async def test_many_unknown_users_evict_no_record(world: World):
    world.publish(TOY)
    async with world.service(host_cache_bytes=50_000) as service:
        host = service.dependencies.tiers.host
        serving = service.selection.pick("toy")
        await service.score("ann", CANDIDATES)
        for number in range(500):
            host.put(serving, f"nobody-{number}", ABSENT, host.clock())
        kept = await state_of(service, "ann")
        limit = service.metric("absorb_cache_host_limit_bytes")
    assert kept == state("hit", "host")
    assert host.num_bytes <= limit == 50_000
    assert host.evictions > 400


@pytest.mark.parametrize(
    ("age_s", "limit_s", "source"),
    [
        (100, 100, "hit"),
        (101, 100, "stale"),
        (10**9, None, "hit"),
        (-50, 100, "hit"),
        (-300, 100, "hit"),
        (-301, 100, "stale"),
        (-(10**9), None, "hit"),
    ],
)
async def test_a_record_is_stale_only_past_the_limit(world: World, age_s, limit_s, source: str):
    world.publish(TOY)
    async with world.service(now_s=AS_OF_S + age_s, stale_after_s=limit_s) as service:
        answer = await service.score(candidates=CANDIDATES)
        counted = service.metric("absorb_cache_results_total", model="toy", result=source)
    assert answer["state"] == {"source": source, "tier": "redis", "as_of_s": AS_OF_S}
    assert answer["degraded"] == (source == "stale")
    assert answer["scores"] == scores_of(TOY, "ann")
    assert counted == 1
    if source == "stale":
        assert answer["degraded_reason"] == {
            101: "the user's record is 101 s old, more than 100",
            -301: "the user's record is of 301 s in the future, so its age is not known",
        }.get(age_s)
