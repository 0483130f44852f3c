"""The tiers keep what they know of open generations, forget it when told to, and free it after the end."""

import asyncio
import threading
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry

from service.query import FoundState
from service.runtime.engines.engine import State
from service.runtime.scorer import Scorer
from service.runtime.workers import Workers
from service.settings import Settings
from service.state.build import build_tiers
from service.state.cached_user import CachedUser, read_user
from service.state.local_cache import ABSENT, SWEEP_ENTRIES, HostTier
from tests.service.state.test_counters import SERVING, ScriptedStore, record
from tests.service.toy import AS_OF_S, Toy
from tests.service.world import World

OTHER = replace(SERVING, generation=replace(SERVING.generation, name="g1"))
TTL_S, ABSENT_TTL_S = 50.0, 20.0


def new_tier() -> HostTier:
    host = HostTier(1 << 24, TTL_S, ABSENT_TTL_S, lambda: 0.0)
    host.open(SERVING)
    return host


def put(host: HostTier, user: str) -> None:
    assert host.put(SERVING, user, read_user(record(user), SERVING, user), 0.0)


def known(host: HostTier, user: str) -> CachedUser:
    found = host.get(SERVING, user)
    assert isinstance(found, CachedUser)
    return found


def sweep(host: HostTier) -> int:
    """Turns until there is nothing left to free."""
    turns = 1
    while host.sweep():
        turns += 1
    return turns


def test_only_the_record_with_this_state_is_dropped():
    host = new_tier()
    put(host, "ann")
    put(host, "bob")
    old = known(host, "ann")
    put(host, "ann")  # a newer one

    host.drop(SERVING, "ann", old.state)
    assert host.holds(SERVING, "ann")

    new = known(host, "ann")
    host.drop(OTHER, "ann", new.state)
    host.drop(SERVING, "bob", new.state)
    assert host.holds(SERVING, "ann")
    assert host.holds(SERVING, "bob")

    host.drop(SERVING, "ann", new.state)
    host.drop(SERVING, "ann", new.state)
    assert not host.holds(SERVING, "ann")
    assert host.holds(SERVING, "bob")


def test_a_record_replaces_an_absence_and_an_absence_a_record():
    host = new_tier()
    assert host.put(SERVING, "ann", ABSENT, 0.0)
    assert host.get(SERVING, "ann") is ABSENT
    put(host, "ann")
    assert host.get(SERVING, "ann") is not ABSENT
    assert (host.users.num_entries, host.absent.num_entries) == (1, 0)
    assert host.put(SERVING, "ann", ABSENT, 0.0)
    assert host.get(SERVING, "ann") is ABSENT
    assert (host.users.num_entries, host.absent.num_entries) == (0, 1)


def test_the_bytes_of_an_id_count():
    host = new_tier()
    ann = read_user(record("ann"), SERVING, "ann")
    sizes = [0]
    for value in (ann, ABSENT):
        for user_id in ("u", "u" * 1000):
            host.put(SERVING, f"{user_id} {value is ann}", value, 0.0)
            sizes.append(host.num_bytes - sum(sizes))
    _, short, long, short_absent, long_absent = sizes
    assert (long - short, long_absent - short_absent) == (999, 999)


def test_what_was_known_of_a_closed_generation_is_gone_at_once():
    host = new_tier()
    put(host, "ann")
    host.put(SERVING, "bob", ABSENT, 0.0)
    host.close(SERVING)
    assert not host.holds(SERVING, "ann")
    assert not host.holds(SERVING, "bob")
    assert not host.put(SERVING, "carl", ABSENT, 0.0)
    assert not host.put(SERVING, "ann", read_user(record("ann"), SERVING, "ann"), 0.0)
    assert host.num_bytes > 0
    sweep(host)
    assert host.num_bytes == 0


@pytest.mark.parametrize(("records", "absences"), [(3, 0), (0, 3), (3, 3)])
def test_entries_are_freed_over_many_turns(records: int, absences: int):
    host = new_tier()
    ann = read_user(record("ann"), SERVING, "ann")
    for number in range(records * SWEEP_ENTRIES):
        assert host.put(SERVING, f"user {number}", ann, 0.0)
    for number in range(absences * SWEEP_ENTRIES):
        assert host.put(SERVING, f"nobody {number}", ABSENT, 0.0)
    assert not host.sweep()  # of an open generation, none

    host.close(SERVING)

    assert sweep(host) >= records + absences
    assert (host.users.num_entries, host.absent.num_entries, host.num_bytes) == (0, 0, 0)


class Closable(ScriptedStore):
    """A cache that knows whether its connections are closed."""

    is_closed = False

    async def close(self) -> None:
        self.is_closed = True


class Slots:
    """Device memory, on the host."""

    slot_bytes = 100

    def write(self, state: State) -> State:
        return dict(state)


async def closed_with_work_left() -> set[asyncio.Task[None]]:
    """Close the tiers while a hinted user is being read and entries of an old generation wait to be freed."""
    store, workers, settings = Closable(), Workers(1), Settings(device_cache_bytes=1000)
    tiers = build_tiers(
        settings, store, CollectorRegistry(), workers, lambda: AS_OF_S, lambda: False
    )
    tiers.states.swapped(None, SERVING)
    user = read_user(record("bob"), SERVING, "bob")
    tiers.device.offer(SERVING, "bob", user, tiers.host.clock() + 100.0)
    while tiers.device.num_waiting:
        await asyncio.sleep(0)
    assert tiers.device.get(SERVING, "bob") is not None
    for number in range(100 * SWEEP_ENTRIES):
        assert tiers.host.put(SERVING, f"nobody {number}", ABSENT, tiers.host.clock())
    tiers.states.swapped(SERVING, OTHER)
    assert tiers.prefetcher.accept([(OTHER, "ann")]) == 1
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert store.pending  # its read has begun

    await tiers.close()

    await asyncio.sleep(0)
    await asyncio.sleep(0)
    workers.shutdown()
    assert store.is_closed
    assert tiers.host.num_bytes > 0
    return asyncio.all_tasks() - {asyncio.current_task()}


def copiers() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name.startswith("device-copies")]


def test_closing_the_tiers_ends_their_tasks_and_threads(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Scorer, "state_memory", Slots())
    before = copiers()
    assert asyncio.run(closed_with_work_left()) == set()
    for thread in copiers():
        if thread not in before:
            thread.join(10)
    assert copiers() == before


@pytest.mark.anyio
@pytest.mark.parametrize(("tier", "device_bytes"), [("host", 0), ("device", 1000)])
async def test_a_dropped_record_is_read_again(
    world: World, monkeypatch: pytest.MonkeyPatch, tier: str, device_bytes: int
):
    monkeypatch.setattr(Scorer, "state_memory", Slots())
    world.publish(Toy())
    async with world.service(device_cache_bytes=device_bytes) as service:
        tiers, serving = service.dependencies.tiers, service.selection.pick(None)

        async def found(user: str) -> FoundState:
            state = await tiers.states.find(serving, user)
            while tiers.device.num_waiting:
                await asyncio.sleep(0)
            return state

        first = [(await found(user)).tier for user in ("ann", "bob")]
        kept = [await found(user) for user in ("ann", "bob")]
        tiers.states.drop(serving, "ann", kept[0])
        after = [(await found(user)).tier for user in ("ann", "bob", "ann")]
    assert first == ["redis", "redis"]
    assert [one.tier for one in kept] == [tier, tier]
    assert after == ["redis", tier, tier]
