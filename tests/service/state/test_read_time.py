"""An entry's age in the host tier counts from the begin of its read: the value may change in the cache after that."""

import asyncio

import pytest

from service.runtime.workers import Workers
from service.state.counters import TierCounts
from service.state.device_tier import DeviceTier
from service.state.local_cache import HostTier
from service.state.lookup import TieredStates
from service.state.open_reads import OpenReads
from service.state.prefetch import Prefetcher
from tests.service.state.test_counters import SERVING, ScriptedStore, record
from tests.service.toy import AS_OF_S

pytestmark = pytest.mark.anyio
TTL_S, ABSENT_TTL_S, READ_S = 50.0, 20.0, 15.0


class Clock:
    """Monotonic seconds that move only when the test says so."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def host(clock: Clock) -> HostTier:
    host = HostTier(1 << 20, TTL_S, ABSENT_TTL_S, clock)
    host.open(SERVING)
    return host


async def answer_late(store: ScriptedStore, clock: Clock, value: bytes | None) -> None:
    while not store.pending:
        await asyncio.sleep(0)
    clock.now_s += READ_S
    _, answer = store.pending.pop()
    answer.set_result(value)


@pytest.mark.parametrize(
    ("value", "ttl_s"), [(record("ann"), TTL_S), (None, ABSENT_TTL_S)], ids=["record", "absent"]
)
async def test_a_slow_lookup_counts_towards_the_age(
    host: HostTier, clock: Clock, value: bytes | None, ttl_s: float
):
    store, workers = ScriptedStore(), Workers(1)
    device = DeviceTier(0, lambda serving: None, clock)
    states = TieredStates(
        store, device, host, OpenReads(), TierCounts(), workers, None, lambda: AS_OF_S
    )
    finding = asyncio.create_task(states.find(SERVING, "ann"))
    await answer_late(store, clock, value)
    found = await finding
    workers.shutdown()
    assert found.tier == "redis"
    clock.now_s = ttl_s - 0.1
    assert host.holds(SERVING, "ann")
    clock.now_s = ttl_s
    assert not host.holds(SERVING, "ann")


async def test_a_slow_prefetch_counts_towards_the_age(host: HostTier, clock: Clock):
    store = ScriptedStore()
    prefetcher = Prefetcher(store, host, OpenReads(), TierCounts(), lambda: False)
    assert prefetcher.accept([(SERVING, "ann")]) == 1
    await answer_late(store, clock, record("ann"))
    await prefetcher.settle()
    clock.now_s = TTL_S - 0.1
    assert host.holds(SERVING, "ann")
    clock.now_s = TTL_S
    assert not host.holds(SERVING, "ann")
