"""Looks up a user's state in the tiers: device, host, cache; the cold-start state if none has a usable record."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from functools import partial
from typing import Any, Generic, TypeVar

from models.contract.errors import CacheUnavailableError, RecordError
from service.generations.serving import Serving
from service.observability.metrics import StateSource
from service.query import FoundState, Tier, cold_start
from service.runtime.workers import Workers
from service.state.cached_user import CachedUser, read_user
from service.state.counters import Result, Tally, TierCounts
from service.state.device_tier import DeviceTier
from service.state.forgotten import ForgottenUsers
from service.state.local_cache import ABSENT, Absent, HostTier
from service.state.open_reads import Key as RecordName
from service.state.open_reads import OpenReads
from service.store.redis import StateStore

DECODE_INLINE_BYTES = 1 << 18
"""Records up to this size are decoded on the event loop. A CRC and a copy take some 60 µs for a record
of 73 kB, less than waiting for a worker thread that scores."""

MAX_AHEAD_S = 300
"""How far a record may be ahead of the clock: clocks differ, by less than this where they are kept. A log in another
time zone or unit is further ahead, and its records would never become stale."""

Read = CachedUser | Absent | RecordError | CacheUnavailableError
"""Result of reading a tier: a record, no record, or an error."""


RESULTS: dict[StateSource, Result] = {
    "hit": "hit",
    "miss": "miss",
    "stale": "stale",
    "corrupt": "corrupt",
    "unavailable": "error",
}
"""Source of a state -> name of that result in the metrics of the tiers."""

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class SingleFlight(Generic[Key, Value]):
    """Runs the work for a key once, however many callers wait for it at the same time. Stores no result.

    A cancelled caller cancels neither the work nor the other callers. An error of the work reaches every caller.
    """

    def __init__(self) -> None:
        self._tasks: dict[Key, asyncio.Task[Value]] = {}

    def __len__(self) -> int:
        """Number of keys whose work is running."""
        return len(self._tasks)

    def __contains__(self, key: Key) -> bool:
        """Whether the work for a key is running."""
        return key in self._tasks

    async def do(self, key: Key, work: Callable[[], Coroutine[Any, Any, Value]]) -> Value:
        """The result of `work`, or of the work that already runs for the same key."""
        task = self._tasks.get(key)
        if task is None or task.done():
            task = self._tasks[key] = asyncio.create_task(self._run(key, work))
        return await asyncio.shield(task)

    async def _run(self, key: Key, work: Callable[[], Coroutine[Any, Any, Value]]) -> Value:
        try:
            return await work()
        finally:
            # Not in a done callback: a caller that retries right after an error must start new work.
            if self._tasks.get(key) is asyncio.current_task():
                del self._tasks[key]

    def leave(self, key: Key) -> None:
        """Let later callers start new work for a key; the work that runs goes on for those that wait for it."""
        self._tasks.pop(key, None)


class TieredStates:
    """Looks up users in the device tier, the host tier, then in the cache. Used on the event loop only.

    What a lookup finds below the device tier is copied there in the background, if the generation's engine uses it.

    Concurrent lookups of one user in one generation share one read of the cache, which counts as one lookup there and
    continues if the waiting requests are cancelled. Records, and the absence of one, are stored in the host tier.
    Corrupt records and cache errors are not: the next request reads again.

    When a record changes, its user is dropped. The result of a read that began before is answered to the requests that
    wait for it, and not stored; later requests do not wait for it, and read again.

    Attributes:
        clock: returns the epoch second.
    """

    def __init__(
        self,
        store: StateStore,
        device: DeviceTier,
        host: HostTier,
        open_reads: OpenReads,
        counts: TierCounts,
        workers: Workers,
        stale_after_s: float | None,
        clock: Callable[[], float],
    ) -> None:
        """Store the dependencies.

        Args:
            store: the cache.
            device: the device tier.
            host: the host tier.
            open_reads: reads that have not ended, those of the prefetcher included.
            counts: lookups and results per tier.
            workers: threads that decode large records.
            stale_after_s: age in seconds above which a record is stale, as is one more than `MAX_AHEAD_S` ahead of the
                clock; None: no record is.
            clock: returns the epoch second.
        """
        self._store = store
        self._device = device
        self._host = host
        self._open_reads = open_reads
        self._counts = counts
        self._workers = workers
        self._stale_after_s = stale_after_s
        self.clock = clock
        self._flight: SingleFlight[tuple[Serving, str], Read] = SingleFlight()
        self._serving: dict[tuple[str, str], Serving] = {}
        self._sweeping: asyncio.Task[None] | None = None
        self._forgotten = ForgottenUsers(self._held, self._drop_everywhere)

    def swapped(self, old: Serving | None, new: Serving | None) -> None:
        """Drop the entries of `old`, and accept entries of `new`."""
        if old is not None:
            self._device.close(old)
            self._host.close(old)
            self._counts.by_serving.pop(old, None)
            self._serving.pop((old.generation.model, old.generation.place), None)
            self._sweep_soon()
        if new is not None:
            self._device.open(new)
            self._host.open(new)
            self._counts.by_serving[new] = Tally()
            self._serving[new.generation.model, new.generation.place] = new

    def changed(self, record: RecordName) -> bool:
        """Drop a user whose record has changed; False if the record's generation does not serve.

        Args:
            record: model, place of the generation, and user id.
        """
        for read in self._open_reads.outdate(record):
            self._flight.leave((read.serving, read.user_id))
        model, place, user_id = record
        serving = self._serving.get((model, place))
        if serving is None:
            return False
        self._device.drop(serving, user_id)
        self._host.remove(serving, user_id)
        return True

    def forget(self, user: str) -> None:
        """Drop a user of every generation: no lookup that begins later finds what the tiers held.

        Args:
            user: `tombstone` of the user.
        """
        self._forgotten.seek(user)
        for read in self._open_reads.outdate_user(self._forgotten.is_sought):
            self._flight.leave((read.serving, read.user_id))

    def _drop_everywhere(self, user_id: str) -> None:
        for serving in self._serving.values():
            self._device.drop(serving, user_id)
            self._host.remove(serving, user_id)

    def _held(self) -> list[str]:
        """Ids of the users of whom a tier holds something."""
        held: list[str] = []
        for serving in self._serving.values():
            held += self._device.held(serving)
            held += self._host.held(serving)
        return held

    def drop_all(self) -> None:
        """Drop every user of every generation: any record may have changed."""
        for read in self._open_reads.outdate_all():
            self._flight.leave((read.serving, read.user_id))
        for serving in self._serving.values():
            self._device.empty(serving)
            self._host.empty(serving)
        self._sweep_soon()

    def close(self) -> None:
        """Stop the tasks that free entries and look for forgotten users."""
        self._forgotten.close()
        if self._sweeping is not None:
            self._sweeping.cancel()

    def _sweep_soon(self) -> None:
        if self._sweeping is None or self._sweeping.done():
            self._sweeping = asyncio.get_running_loop().create_task(self._sweep())

    async def _sweep(self) -> None:
        while self._device.sweep() or self._host.sweep():
            await asyncio.sleep(0)

    async def find(self, serving: Serving, user_id: str) -> FoundState:
        """Look up a user. If a tier of this process has the answer, neither waits nor starts a task."""
        if self._forgotten.sought and self._forgotten.is_sought(user_id):
            self._drop_everywhere(user_id)
        device = self._device if self._device.is_used else None
        if device is not None and device.serves(serving):
            on_device = device.get(serving, user_id)
            if on_device is not None:
                state = self._state_of(serving, "device", on_device)
                self._count(serving, "device", RESULTS[state.source])
                return state
            self._count(serving, "device", "miss")
        if self._host.limit_bytes > 0:
            cached = self._host.get(serving, user_id)
            if cached is not None:
                state = self._state_of(serving, "host", cached)
                self._count(serving, "host", RESULTS[state.source])
                if device is not None:
                    self._copy(serving, user_id, cached)
                return state
            self._count(serving, "host", "miss")
        key = serving, user_id
        if key in self._flight:
            self._counts.num_joined += 1
        return self._state_of(
            serving, "redis", await self._flight.do(key, partial(self._read, *key))
        )

    def drop(self, serving: Serving, user_id: str, found: FoundState) -> None:
        """Forget a record that gave no score: the next request reads the cache again."""
        self._device.drop(serving, user_id)
        if found.tier == "device":
            # The host tier may hold the record from which the state was copied.
            self._host.users.remove(serving, user_id)
        self._host.drop(serving, user_id, found.state)

    async def peek(self, serving: Serving, user_id: str) -> FoundState:
        """Look up a user in the cache only; neither counts the lookup nor stores the result."""
        return self._state_of(serving, "redis", await self._read_cache(serving, user_id))

    async def _read(self, serving: Serving, user_id: str) -> Read:
        began_s = self._host.clock()
        open_read = self._open_reads.begin(serving, user_id)
        try:
            read = await self._read_cache(serving, user_id)
        finally:
            self._open_reads.end(open_read)
        state = self._state_of(serving, "redis", read)
        self._count(serving, "redis", RESULTS[state.source])
        if not open_read.is_outdated:
            self._store_read(serving, user_id, read, began_s)
        return read

    def _store_read(self, serving: Serving, user_id: str, read: Read, began_s: float) -> None:
        if isinstance(read, CachedUser | Absent):
            self._host.put(serving, user_id, read, began_s)
            if self._device.is_used:
                self._device.drop(serving, user_id)
        if isinstance(read, CachedUser) and self._device.is_used:
            self._device.offer(serving, user_id, read, self._host.expiry_s(began_s))

    def _copy(self, serving: Serving, user_id: str, cached: CachedUser | Absent) -> None:
        """Offer a record of the host tier to the device tier, where it expires at the same time."""
        until_s = self._host.users.until_s(serving, user_id)
        if isinstance(cached, CachedUser) and until_s is not None:
            self._device.offer(serving, user_id, cached, until_s)

    async def _read_cache(self, serving: Serving, user_id: str) -> Read:
        try:
            raw = await self._store.read(serving.generation.key(user_id))
            if raw is None:
                return ABSENT
            if len(raw) <= DECODE_INLINE_BYTES:
                return read_user(raw, serving, user_id)
            reading = self._workers.submit(read_user, raw, serving, user_id)
            return await asyncio.wrap_future(reading)
        except (CacheUnavailableError, RecordError) as error:
            return error

    def _count(self, serving: Serving, tier: Tier, result: Result) -> None:
        self._counts.total.results[tier][result] += 1
        tally = self._counts.by_serving.get(serving)
        if tally is not None:
            tally.results[tier][result] += 1

    def _state_of(self, serving: Serving, tier: Tier, read: Read) -> FoundState:
        if isinstance(read, CachedUser):
            return self._user_state(tier, read)
        if isinstance(read, Absent):
            return cold_start(serving, "miss", tier, "this user is not in the cache")
        if isinstance(read, CacheUnavailableError):
            return cold_start(serving, "unavailable", tier, str(read))
        return cold_start(serving, "corrupt", tier, str(read))

    def _user_state(self, tier: Tier, user: CachedUser) -> FoundState:
        problem = self._why_stale(user.as_of_s)
        source: StateSource = "hit" if problem is None else "stale"
        return FoundState(
            user.serving, source, tier, user.state, user.recent, user.as_of_s, problem
        )

    def _why_stale(self, as_of_s: int) -> str | None:
        limit_s = self._stale_after_s
        if limit_s is None:
            return None
        age_s = self.clock() - as_of_s
        if age_s > limit_s:
            return f"the user's record is {age_s:.0f} s old, more than {limit_s}"
        if age_s < -MAX_AHEAD_S:
            return f"the user's record is of {-age_s:.0f} s in the future, so its age is not known"
        return None
