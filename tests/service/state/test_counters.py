"""Every lookup has one result, for any order of reads, publishes, errors, cancellations and evictions."""

import asyncio
import shutil
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from prometheus_client import CollectorRegistry, generate_latest
from redis.asyncio.connection import AbstractConnection

from models.contract.errors import CacheUnavailableError
from models.contract.generation import Generation
from models.contract.record import UserRecord, encode_record
from service.generations.serving import Serving
from service.query import FoundState
from service.runtime.engines.engine import State
from service.runtime.scorer import Scorer
from service.runtime.workers import Workers
from service.state.cached_user import footprint, read_user
from service.state.counters import TIERS, DeviceCollector, HostCollector, TierCollector, TierCounts
from service.state.device_tier import DeviceTier
from service.state.local_cache import HostTier
from service.state.lookup import TieredStates
from service.state.open_reads import OpenReads
from service.state.prefetch import Prefetcher
from tests.service.toy import AS_OF_S, SPEC, Toy

USERS = ["ann", "bob", "carl", "dora", "emil"]
STALE_AFTER_S = 100


class ScriptedStore:
    """A cache whose answers and their times the test controls."""

    name = "scripted"

    async def connect(self, key: str) -> AbstractConnection:
        raise NotImplementedError

    def __init__(self) -> None:
        self.pending: list[tuple[str, asyncio.Future[bytes | None]]] = []

    async def read(self, key: str) -> bytes | None:
        answer: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self.pending.append((key, answer))
        return await answer

    async def read_many(self, keys: Sequence[str]) -> list[bytes | None]:
        return [await self.read(key) for key in keys]

    async def read_pointers(self) -> dict[str, bytes | None]:
        return {}

    async def read_default(self) -> bytes:
        return b""

    async def read_follow_statuses(self) -> list[bytes]:
        return []

    async def announce(self, service: str, loaded: bytes, ttl_s: int) -> None:
        """Nothing to close."""

    async def close(self) -> None:
        """Nothing to let go of."""


def make_serving() -> Serving:
    folder = Path(tempfile.mkdtemp(prefix="ab", dir="/tmp"))
    artifact = Toy().save(folder)
    scorer = Scorer(artifact, 1)
    shutil.rmtree(folder)
    generation = Generation("toy", "g0", artifact.artifact_id, 5, AS_OF_S, AS_OF_S, "fp32")
    return Serving(generation, artifact, scorer)


SERVING = make_serving()


def record(user_id: str, as_of_s: int = AS_OF_S) -> bytes:
    """A record whose state encodes its user."""
    state = {
        "interest": np.full((2, 4), USERS.index(user_id), np.float32),
        "length": np.ones(1, np.float32),
    }
    one = UserRecord(user_id, as_of_s, np.zeros(1, np.int32), state)
    return encode_record(one, SPEC, SERVING.generation.artifact_id, "fp32")


WEIGHT = footprint("ann", read_user(record("ann"), SERVING, "ann"))


class GatedMemory:
    """Copies states as an engine's slots do, but only while the test lets it."""

    slot_bytes = 100

    def __init__(self) -> None:
        self.gate = threading.Event()

    def write(self, state: State) -> State:
        self.gate.wait()
        return {name: values.copy() for name, values in state.items()}


class Lookups(RuleBasedStateMachine):
    """Lookups and answers of the cache in any order."""

    device_users = 0

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.now_s = 0.0
        self.store = self.make_store()
        self.registry = CollectorRegistry()
        self.counts = TierCounts()
        self.registry.register(TierCollector(self.counts))
        # Three records fit, and two users without one.
        self.host = HostTier(16 * WEIGHT * 7 // 30, 50.0, 2.0, lambda: self.now_s)
        self.workers = Workers(1)
        self.memory = GatedMemory()
        self.device = DeviceTier(
            self.device_users * self.memory.slot_bytes,
            lambda serving: self.memory,
            lambda: self.now_s,
        )
        self.reads = OpenReads()
        tiers = self.store, self.device, self.host, self.reads
        self.states = TieredStates(*tiers, self.counts, self.workers, STALE_AFTER_S, self.clock)
        self.prefetcher = Prefetcher(self.store, self.host, self.reads, self.counts, lambda: False)
        self.servings: list[Serving] = []
        self.waiting: list[tuple[asyncio.Task[FoundState], Serving, str]] = []
        self.num_lookups = self.hinted = 0
        self.flip()

    def make_store(self) -> ScriptedStore:
        return ScriptedStore()

    def clock(self) -> float:
        return AS_OF_S + self.now_s

    def turn(self) -> None:
        """Let every task go on until it waits for the cache, and look at those that are done."""

        async def turn() -> None:
            for _ in range(12):
                await asyncio.sleep(0)

        self.runner.run(turn())
        for task, serving, user_id in [one for one in self.waiting if one[0].done()]:
            self.waiting = [one for one in self.waiting if one[0] is not task]
            if not task.cancelled():
                self.check(task.result(), serving, user_id)

    def check(self, found: FoundState, serving: Serving, user_id: str) -> None:
        assert found.serving is serving
        assert (found.as_of_s is not None) == (found.source in {"hit", "stale"})
        if found.as_of_s is None:
            assert found.state is serving.scorer.cold_start
        else:
            assert (found.state["interest"] == USERS.index(user_id)).all()
            age_s = self.clock() - found.as_of_s
            assert found.source == ("stale" if age_s > STALE_AFTER_S else "hit")

    @rule()
    def flip(self) -> None:
        old = self.servings[-1] if self.servings else None
        name = f"g{len(self.servings)}"
        new = replace(SERVING, generation=replace(SERVING.generation, name=name))
        self.servings.append(new)

        async def swap() -> None:
            self.states.swapped(old, new)

        self.runner.run(swap())
        self.turn()

    @rule(user_id=st.sampled_from(USERS), late=st.integers(0, 1))
    def ask(self, user_id: str, late: int) -> None:
        """For what serves, or, as a request that picked before a flip does, for what served before."""
        serving = self.servings[max(0, len(self.servings) - 1 - late)]

        async def start() -> asyncio.Task[FoundState]:
            return asyncio.create_task(self.states.find(serving, user_id))

        self.num_lookups += 1
        self.waiting.append((self.runner.run(start()), serving, user_id))
        self.turn()

    @rule(user_ids=st.lists(st.sampled_from(USERS), min_size=1, max_size=3))
    def hint(self, user_ids: list[str]) -> None:
        async def hint() -> int:
            return self.prefetcher.accept([(self.servings[-1], one) for one in user_ids])

        self.hinted += len(user_ids)
        assert self.runner.run(hint()) == len(user_ids)
        self.turn()

    @precondition(lambda self: self.store.pending)
    @rule(at=st.integers(0, 9), kind=st.sampled_from(["good", "old", "none", "broken", "down"]))
    def answer(self, at: int, kind: str) -> None:
        key, answer = self.store.pending.pop(at % len(self.store.pending))
        user_id = key.rsplit(":", 1)[1]
        values = {
            "good": record(user_id),
            "old": record(user_id, AS_OF_S - STALE_AFTER_S + 10),
            "none": None,
            "broken": b"no record",
        }
        if kind == "down":
            answer.set_exception(CacheUnavailableError("cache", "down"))
        else:
            answer.set_result(values[kind])
        self.turn()

    @precondition(lambda self: self.waiting)
    @rule(at=st.integers(0, 9))
    def cancel(self, at: int) -> None:
        self.waiting[at % len(self.waiting)][0].cancel()
        self.turn()

    @rule(seconds=st.integers(1, 30))
    def time_passes(self, seconds: int) -> None:
        self.now_s += seconds

    @invariant()
    def results_add_up_to_lookups(self) -> None:
        samples = [one for metric in self.registry.collect() for one in metric.samples]
        for tier in TIERS:
            mine = [one for one in samples if one.labels.get("tier") == tier]
            lookups = sum(
                one.value for one in mine if one.name == "absorb_cache_tier_lookups_total"
            )
            results = sum(
                one.value for one in mine if one.name == "absorb_cache_tier_results_total"
            )
            assert results == lookups == self.counts.total.lookups(tier)
        total = self.counts.total
        if self.device_users:
            assert total.lookups("device") == self.num_lookups
            assert total.lookups("host") == total.results["device"]["miss"]
        else:
            assert total.lookups("host") == self.num_lookups
            assert total.lookups("device") == 0

    @invariant()
    def the_host_tier_keeps_its_limit(self) -> None:
        assert self.host.num_bytes <= self.host.limit_bytes
        assert self.host.users.num_entries <= 3

    @rule()
    def copies_end(self) -> None:
        """Let the copies to the device end, which have waited since the last time."""

        async def end() -> None:
            self.memory.gate.set()
            while self.device.num_waiting:
                await asyncio.sleep(0.0005)
            self.memory.gate.clear()

        self.runner.run(end())

    @invariant()
    def the_device_tier_keeps_its_limit(self) -> None:
        assert self.device.users.num_bytes <= self.device.limit_bytes
        assert self.device.users.num_entries <= self.device_users

    @invariant()
    def hints_are_accounted_for(self) -> None:
        assert self.counts.num_hinted == self.hinted
        assert sum(self.counts.outcomes.values()) <= self.hinted

    @invariant()
    def one_generation_serves(self) -> None:
        assert list(self.counts.by_serving) == self.servings[-1:]

    def teardown(self) -> None:
        while self.store.pending:
            self.answer(0, "good")
            self.turn()
        self.turn()
        assert self.waiting == []
        assert len(self.reads) == 0
        assert sum(self.counts.outcomes.values()) == self.hinted
        self.waiting.clear()
        self.memory.gate.set()
        self.device.shutdown()
        self.runner.close()
        self.workers.shutdown()


Lookups.TestCase.settings = settings(max_examples=15, stateful_step_count=30, deadline=None)
TestLookups = Lookups.TestCase


class DeviceLookups(Lookups):
    """The same with a device tier in front, in which two users fit."""

    device_users = 2


DeviceLookups.TestCase.settings = Lookups.TestCase.settings
TestDeviceLookups = DeviceLookups.TestCase


def exported(registry: CollectorRegistry) -> dict[str, float]:
    """Sample with its labels -> value, of what dashboards and alerts read."""
    assert all(metric.documentation for metric in registry.collect())
    lines = generate_latest(registry).decode().splitlines()
    pairs = [line.rsplit(" ", 1) for line in lines if not line.startswith("#")]
    return {sample: float(value) for sample, value in pairs}


def test_the_counts_are_exported_under_their_names():
    counts, registry = TierCounts(), CollectorRegistry()
    registry.register(TierCollector(counts))
    counts.total.results["host"].update({"hit": 3, "miss": 5})
    counts.total.results["redis"].update({"stale": 1, "corrupt": 2, "error": 4})
    counts.num_joined = 7
    counts.followed("loaded", 6)
    counts.followed("dropped", 8)
    samples = exported(registry)
    assert {name: value for name, value in samples.items() if value} == {
        'absorb_cache_tier_lookups_total{tier="host"}': 8,
        'absorb_cache_tier_lookups_total{tier="redis"}': 7,
        'absorb_cache_tier_results_total{result="hit",tier="host"}': 3,
        'absorb_cache_tier_results_total{result="miss",tier="host"}': 5,
        'absorb_cache_tier_results_total{result="stale",tier="redis"}': 1,
        'absorb_cache_tier_results_total{result="corrupt",tier="redis"}': 2,
        'absorb_cache_tier_results_total{result="error",tier="redis"}': 4,
        "absorb_cache_joined_reads_total": 7,
        'absorb_prefetched_users_total{outcome="loaded"}': 6,
        'absorb_prefetched_users_total{outcome="dropped"}': 8,
    }
    assert 'absorb_prefetched_users_total{outcome="absent"}' in samples
    assert 'absorb_cache_tier_results_total{result="error",tier="host"}' in samples


def test_the_size_of_the_host_tier_is_exported():
    host, registry = HostTier(16 * WEIGHT * 7 // 30, 50.0, 2.0, lambda: 0.0), CollectorRegistry()
    registry.register(HostCollector(host))
    host.open(SERVING)
    for user in USERS:
        host.put(SERVING, user, read_user(record(user), SERVING, user), 0.0)
    assert exported(registry) == {
        "absorb_cache_host_bytes": host.num_bytes,
        "absorb_cache_host_limit_bytes": 16 * WEIGHT * 7 // 30,
        "absorb_cache_host_users": 3,
        "absorb_cache_host_evictions_total": 2,
    }


def test_the_size_of_the_device_tier_is_exported():
    device, registry = DeviceTier(300, lambda _: None, lambda: 0.0), CollectorRegistry()
    registry.register(DeviceCollector(device))
    device.users.open(SERVING)
    for user in USERS:
        device.users.put(SERVING, user, read_user(record(user), SERVING, user), 100, 1.0)
    device.outcomes.update({"copied": 5, "failed": 1})
    device.shutdown()
    assert exported(registry) == {
        "absorb_cache_device_bytes": 300,
        "absorb_cache_device_limit_bytes": 300,
        "absorb_cache_device_users": 3,
        "absorb_cache_device_evictions_total": 2,
        'absorb_cache_device_copies_total{outcome="copied"}': 5,
        'absorb_cache_device_copies_total{outcome="dropped"}': 0,
        'absorb_cache_device_copies_total{outcome="failed"}': 1,
        'absorb_cache_device_copies_total{outcome="outdated"}': 0,
    }
