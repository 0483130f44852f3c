"""Finds a user's state: in the host tier, else in the cache. Where neither has it: the cold-start state."""

import asyncio
from collections.abc import Callable
from functools import partial

from models.contract.errors import CacheUnavailableError, RecordError
from service.generations.serving import Serving
from service.observability.metrics import StateSource
from service.query import FoundState, Tier, cold_start
from service.runtime.workers import Workers
from service.state.cached_user import CachedUser, read_user
from service.state.counters import Result, Tally, TierCounts
from service.state.flight import SingleFlight
from service.state.local_cache import ABSENT, Absent, HostTier
from service.store.redis import StateStore

DECODE_INLINE_BYTES = 1 << 18
"""Records up to this size are decoded on the event loop: a CRC and a copy, some 60 µs for 73 kB, which is what the
default record has, take less time than to queue behind the scores in the workers' threads."""

Read = CachedUser | Absent | RecordError | CacheUnavailableError
"""What a tier gave: a user, none, or the reason for neither."""


RESULTS: dict[StateSource, Result] = {
    "hit": "hit",
    "miss": "miss",
    "stale": "stale",
    "corrupt": "corrupt",
    "unavailable": "error",
}
"""Source of a state -> how the tiers' metrics name that result."""


class TieredStates:
    """The host tier before the cache. Used on the event loop only.

    A user's lookup counts in the host tier at once. Where that knows nothing, one read of the cache answers all who ask
    for the same user of the same generation meanwhile, and counts once; it goes on when those who wait are cancelled.
    What it finds is kept. Corrupt records, and a cache that does not answer, are not: the next request asks again.
    """

    def __init__(
        self,
        store: StateStore,
        host: HostTier,
        counts: TierCounts,
        workers: Workers,
        stale_after_s: float | None,
        clock: Callable[[], float],
    ) -> None:
        """Keep the parts.

        Args:
            store: the cache.
            host: the tier in this process.
            counts: of lookups.
            workers: threads in which large records are decoded.
            stale_after_s: age in seconds above which a record is stale; None: never.
            clock: gives the epoch second, to tell stale records.
        """
        self._store = store
        self._host = host
        self._counts = counts
        self._workers = workers
        self._stale_after_s = stale_after_s
        self.clock = clock
        self._flight: SingleFlight[tuple[Serving, str], Read] = SingleFlight()
        self._sweeping: asyncio.Task[None] | None = None

    def swapped(self, old: Serving | None, new: Serving | None) -> None:
        """Forget what is kept of `old`, and begin to keep what is read for `new`."""
        if old is not None:
            self._host.close(old)
            self._counts.by_serving.pop(old, None)
            if self._sweeping is None or self._sweeping.done():
                self._sweeping = asyncio.get_running_loop().create_task(self._sweep())
        if new is not None:
            self._host.open(new)
            self._counts.by_serving[new] = Tally()

    def close(self) -> None:
        """Stop freeing what nobody reaches: the process ends."""
        if self._sweeping is not None:
            self._sweeping.cancel()

    async def _sweep(self) -> None:
        while self._host.sweep():
            await asyncio.sleep(0)

    async def find(self, serving: Serving, user_id: str) -> FoundState:
        """Look the user up. Does not wait, and makes no task, where the host tier knows the answer."""
        if self._host.limit_bytes > 0:
            kept = self._host.get(serving, user_id)
            if kept is not None:
                found = self._judge(serving, "host", kept)
                self._counts.looked_up(serving, "host", RESULTS[found.source])
                return found
            self._counts.looked_up(serving, "host", "miss")
        key = serving, user_id
        if key in self._flight:
            self._counts.joined()
        return self._judge(serving, "redis", await self._flight.do(key, partial(self._read, *key)))

    async def peek(self, serving: Serving, user_id: str) -> FoundState:
        """Look the user up in the cache alone; counted nowhere and kept nowhere."""
        return self._judge(serving, "redis", await self._ask(serving, user_id))

    async def _read(self, serving: Serving, user_id: str) -> Read:
        began_s = self._host.clock()
        read = await self._ask(serving, user_id)
        found = self._judge(serving, "redis", read)
        self._counts.looked_up(serving, "redis", RESULTS[found.source])
        if isinstance(read, CachedUser | Absent):
            self._host.put(serving, user_id, read, began_s)
        return read

    async def _ask(self, serving: Serving, user_id: str) -> Read:
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

    def _judge(self, serving: Serving, tier: Tier, read: Read) -> FoundState:
        if isinstance(read, CachedUser):
            return self._aged(tier, read)
        if isinstance(read, Absent):
            return cold_start(serving, "miss", tier, "this user is not in the cache")
        if isinstance(read, CacheUnavailableError):
            return cold_start(serving, "unavailable", tier, str(read))
        return cold_start(serving, "corrupt", tier, str(read))

    def _aged(self, tier: Tier, user: CachedUser) -> FoundState:
        limit_s = self._stale_after_s
        source: StateSource = "hit"
        problem = None
        if limit_s is not None and (age_s := self.clock() - user.as_of_s) > limit_s:
            source = "stale"
            problem = f"the user's record is {age_s:.0f} s old, more than {limit_s}"
        return FoundState(
            user.serving, source, tier, user.state, user.recent, user.as_of_s, problem
        )
