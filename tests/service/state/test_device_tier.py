"""The device tier over real slots, in the memory of the CPU: copies, evictions, swaps, what becomes of late copies."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import numpy as np
import pytest

from service.errors import ScoreError
from service.runtime.engines.engine import State
from service.runtime.engines.torch.slots import DeviceState, StateSlots
from service.state.cached_user import CachedUser
from service.state.device_tier import MAX_COPIES, DeviceTier
from tests.service.runtime.engines.torch.models import Shape, random_model, random_state, weights_of
from tests.service.state.test_counters import SERVING

pytestmark = pytest.mark.anyio
MODEL = random_model(Shape())
SIZES = weights_of(MODEL)[1]
NEW = replace(SERVING, generation=replace(SERVING.generation, name="new"))


class Gated(StateSlots):
    """Slots whose next copies wait until the gate opens."""

    def __init__(self) -> None:
        super().__init__(SIZES, "cpu")
        self.gate = threading.Event()
        self.gate.set()

    def write(self, state: State) -> DeviceState:
        self.gate.wait()
        return super().write(state)


def user(seed: int) -> CachedUser:
    state = random_state(MODEL, 5, np.random.default_rng(seed))
    return CachedUser(SERVING, seed, np.arange(3), state)


class Tier:
    """A tier in which three users fit, and its slots."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.slots = Gated()
        self.tier = DeviceTier(3 * self.slots.slot_bytes, lambda _: self.slots, lambda: self.now_s)
        self.tier.open(SERVING)

    async def settle(self) -> None:
        self.slots.gate.set()
        while self.tier.num_waiting:
            await asyncio.sleep(0.001)

    async def hold(self, *names: str) -> None:
        for name in names:
            self.tier.offer(SERVING, name, user(ord(name)), 100.0)
            await self.settle()

    @property
    def num_used(self) -> int:
        return self.slots.num_slots - self.slots.num_free

    async def uses(self, expected: int) -> bool:
        """Whether so many slots are used, once the thread that copied has let go of its last result."""
        deadline_s = time.monotonic() + 5
        while self.num_used != expected and time.monotonic() < deadline_s:
            await asyncio.sleep(0.001)
        return self.num_used == expected


@pytest.fixture
async def held() -> AsyncIterator[Tier]:
    tier = Tier()
    yield tier
    tier.slots.gate.set()
    tier.tier.shutdown()


async def test_an_offered_user_is_found_with_the_state_on_the_device(held: Tier):
    await held.hold("a")

    found = held.tier.get(SERVING, "a")

    assert found is not None
    assert found.as_of_s == ord("a")
    expected = user(ord("a")).state
    assert all((found.state[name] == expected[name]).all() for name in expected)
    assert held.tier.outcomes["copied"] == 1
    assert await held.uses(1)


async def test_a_copy_is_not_seen_before_it_has_ended(held: Tier):
    held.slots.gate.clear()
    held.tier.offer(SERVING, "a", user(1), 100.0)
    await asyncio.sleep(0.01)

    assert held.tier.get(SERVING, "a") is None
    await held.settle()
    assert held.tier.get(SERVING, "a") is not None


async def test_the_least_recently_used_gives_way_and_its_slot_is_used_again(held: Tier):
    await held.hold("a", "b", "c")
    held.tier.get(SERVING, "a")
    await held.hold("d")

    assert [name for name in "abcd" if held.tier.get(SERVING, name)] == ["a", "c", "d"]
    assert held.tier.users.evictions == 1
    assert await held.uses(3)


async def test_an_evicted_state_stays_whole_while_a_request_holds_it(held: Tier):
    await held.hold("a")
    found = held.tier.get(SERVING, "a")
    assert found is not None
    await held.hold("b", "c", "d", "e")

    assert held.tier.get(SERVING, "a") is None
    assert await held.uses(4)
    expected = user(ord("a")).state
    assert all((found.state[name] == expected[name]).all() for name in expected)
    del found
    assert await held.uses(3)


async def test_a_swap_hides_the_old_generation_at_once_and_frees_its_slots(held: Tier):
    await held.hold("a", "b")
    held.tier.close(SERVING)
    held.tier.open(NEW)

    assert held.tier.get(SERVING, "a") is held.tier.get(NEW, "a") is None
    while held.tier.sweep():
        pass
    assert await held.uses(0)


async def test_a_copy_that_ends_after_the_swap_is_not_used(held: Tier):
    held.slots.gate.clear()
    held.tier.offer(SERVING, "a", user(1), 100.0)
    held.tier.close(SERVING)
    held.tier.open(NEW)
    await held.settle()

    assert held.tier.users.num_entries == 0
    assert await held.uses(0)
    assert held.tier.outcomes["outdated"] == 1


async def test_a_newer_record_replaces_a_copy_that_has_not_ended(held: Tier):
    held.slots.gate.clear()
    held.tier.offer(SERVING, "a", user(1), 100.0)
    held.tier.drop(SERVING, "a")
    held.tier.offer(SERVING, "a", user(2), 100.0)
    await held.settle()

    found = held.tier.get(SERVING, "a")
    assert found is not None
    assert found.as_of_s == 2
    assert (held.tier.outcomes["outdated"], held.tier.outcomes["copied"]) == (1, 1)
    assert await held.uses(1)


async def test_an_expired_user_is_a_miss_and_frees_its_slot(held: Tier):
    await held.hold("a")
    held.now_s = 100.0

    assert held.tier.get(SERVING, "a") is None
    assert await held.uses(0)


async def test_more_offers_than_may_wait_are_dropped(held: Tier):
    held.slots.gate.clear()
    for number in range(MAX_COPIES + 5):
        held.tier.offer(SERVING, str(number), user(1), 100.0)

    assert held.tier.outcomes["dropped"] == 5
    assert held.tier.num_waiting == MAX_COPIES


async def test_a_user_who_is_being_copied_is_copied_once(held: Tier):
    held.slots.gate.clear()
    for _ in range(3):
        held.tier.offer(SERVING, "a", user(1), 100.0)
    await held.settle()

    assert held.tier.outcomes == {"copied": 1, "dropped": 0, "failed": 0, "outdated": 0}


async def test_a_state_that_cannot_be_scored_is_not_kept(held: Tier):
    bad = user(1)
    bad.state["slot_items"][0] = 10_000
    held.tier.offer(SERVING, "a", bad, 100.0)
    await held.settle()

    assert held.tier.get(SERVING, "a") is None
    assert held.tier.outcomes["failed"] == 1
    with pytest.raises(ScoreError):
        held.slots.write(bad.state)


async def test_generations_without_device_memory_skip_the_tier():
    off = DeviceTier(0, lambda _: StateSlots(SIZES, "cpu"), lambda: 0.0)
    on_cpu = DeviceTier(1 << 20, lambda _: None, lambda: 0.0)
    for tier in (off, on_cpu):
        tier.open(SERVING)
        assert not tier.serves(SERVING)
        tier.offer(SERVING, "a", user(1), 100.0)
        assert tier.num_waiting == 0
        tier.shutdown()


async def test_the_end_drops_the_copies_that_wait(held: Tier):
    held.slots.gate.clear()
    for name in "abc":
        held.tier.offer(SERVING, name, user(1), 100.0)
    await asyncio.sleep(0.01)
    held.tier.shutdown()
    await held.settle()

    assert held.tier.outcomes["copied"] == 1
    assert held.tier.outcomes["dropped"] == 2


async def test_each_generation_has_its_own_memory():
    slots = StateSlots(SIZES, "cpu")
    tier = DeviceTier(1 << 20, lambda one: slots if one is SERVING else None, lambda: 0.0)
    assert tier.serves(SERVING)
    assert not tier.serves(NEW)
    tier.shutdown()
