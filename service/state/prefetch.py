"""Reads users into the host tier in the background, for clients that will request their scores soon."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence

from models.contract.errors import AbsorbError, CacheUnavailableError, RecordError
from service.generations.serving import Serving
from service.state.cached_user import read_user
from service.state.counters import Outcome, TierCounts
from service.state.local_cache import HostTier
from service.state.open_reads import OpenRead, OpenReads
from service.store.redis import StateStore

MAX_QUEUED = 4096
"""Users that may wait to be read; the read of a longer queue would come too late anyway."""
BATCH = 16
"""Users read in one round trip: few, so that the read of a score request does not wait long behind them."""
NUM_WORKERS = 2
"""Round trips at the same time; score requests share the 64 connections."""
PAUSE_S = 0.005
"""Seconds until a worker looks again whether requests wait."""

log = logging.getLogger(__name__)


class Prefetcher:
    """A bounded queue of users, and the tasks that read them. Used on the event loop only.

    While requests wait for a permit, nothing is read: decoding takes the event loop's time, and the cache's.

    A user may be dropped at any point, and is counted as dropped: the later score request reads the cache itself. Score
    requests never wait for the prefetcher. The absence of a record is not stored: MGET answers the same for a key of
    another type.
    """

    def __init__(
        self,
        store: StateStore,
        host: HostTier,
        open_reads: OpenReads,
        counts: TierCounts,
        is_overloaded: Callable[[], bool],
    ) -> None:
        """Start with an empty queue.

        Args:
            store: the cache.
            host: where records are stored.
            open_reads: where reads are noted that have not ended.
            counts: outcomes of the users.
            is_overloaded: whether requests wait for a permit.
        """
        self._store = store
        self._host = host
        self._open_reads = open_reads
        self._counts = counts
        self._is_overloaded = is_overloaded
        self._queue: deque[tuple[Serving, str]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    def accept(self, hinted: Sequence[tuple[Serving, str]]) -> int:
        """Queue as many users as there is room for; drop the others.

        Args:
            hinted: generation that will score the user, and the raw user id.

        Returns:
            Number of queued users.
        """
        room = MAX_QUEUED - len(self._queue) if self._host.limit_bytes > 0 else 0
        accepted = hinted[:room]
        self._queue.extend(accepted)
        self._counts.hinted(len(hinted))
        self._counts.followed("dropped", len(hinted) - len(accepted))
        while self._queue and len(self._tasks) < NUM_WORKERS:
            task = asyncio.get_running_loop().create_task(self._work())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return len(accepted)

    async def settle(self) -> None:
        """Wait until every queued user has been read."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def close(self) -> None:
        """Drop the queued users and stop reading."""
        self._queue.clear()
        for task in self._tasks:
            task.cancel()

    async def _work(self) -> None:
        while self._queue:
            if self._is_overloaded():
                await asyncio.sleep(PAUSE_S)
                continue
            serving, waiting = self._next_batch()
            try:
                await self._load(serving, waiting)
            except CacheUnavailableError:
                self._counts.followed("failed", len(waiting))
            except Exception:  # outermost handler: an error must not end this task
                log.exception("prefetch failed")
                self._counts.followed("failed", len(waiting))

    def _next_batch(self) -> tuple[Serving, deque[str]]:
        serving, first = self._queue.popleft()
        batch = deque([first])
        while self._queue and len(batch) < BATCH and self._queue[0][0] is serving:
            batch.append(self._queue.popleft()[1])
        return serving, batch

    async def _load(self, serving: Serving, waiting: deque[str]) -> None:
        """Read the users; each is removed from `waiting` once it is counted."""
        wanted = [user for user in dict.fromkeys(waiting) if not self._host.holds(serving, user)]
        self._counts.followed("present", len(waiting) - len(wanted))
        waiting.clear()
        waiting.extend(wanted)
        reads = [self._open_reads.begin(serving, user) for user in wanted]
        try:
            await self._read(serving, reads, waiting)
        finally:
            for read in reads:
                self._open_reads.end(read)

    async def _read(self, serving: Serving, reads: Sequence[OpenRead], waiting: deque[str]) -> None:
        began_s = self._host.clock()
        keys = [serving.generation.key(read.user_id) for read in reads]
        for read, raw in zip(reads, await self._store.read_many(keys), strict=True):
            outcome = self._keep(read, raw, began_s)
            waiting.popleft()
            self._counts.followed(outcome, 1)
            # Between two records, requests get their turn: decoding the whole batch would delay them.
            await asyncio.sleep(0)

    def _keep(self, read: OpenRead, raw: bytes | AbsorbError | None, began_s: float) -> Outcome:
        if read.is_outdated:
            return "dropped"
        serving, user_id = read.serving, read.user_id
        if raw is None:
            return "absent"
        if isinstance(raw, AbsorbError):
            return "failed"
        try:
            user = read_user(raw, serving, user_id)
        except RecordError:
            return "failed"
        return "loaded" if self._host.put(serving, user_id, user, began_s) else "dropped"
