"""Users who will be asked for soon: read into the host tier in the background, while candidates are still retrieved."""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence

from models.contract.errors import AbsorbError, CacheUnavailableError, RecordError
from service.generations.serving import Serving
from service.state.cached_user import read_user
from service.state.counters import Outcome, TierCounts
from service.state.local_cache import HostTier
from service.store.redis import StateStore

MAX_QUEUED = 4096
"""Users that wait to be read; a hint about more comes too late for them anyway."""
BATCH = 16
"""Users read in one round trip: few enough that a score's read is not stuck behind them."""
NUM_WORKERS = 2
"""Round trips at once, of the 64 connections that scores have."""

log = logging.getLogger(__name__)


class Prefetcher:
    """A bounded queue of hints, and the tasks that follow them. Used on the event loop only.

    A hint may be dropped at any point, and is then counted as such: the score that was hinted at reads for itself.
    Scores never wait for a hint's read. Users whom the cache does not hold are not remembered: MGET cannot tell them
    from keys of another type.
    """

    def __init__(self, store: StateStore, host: HostTier, counts: TierCounts) -> None:
        self._store = store
        self._host = host
        self._counts = counts
        self._queue: deque[tuple[Serving, str]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    def accept(self, hinted: Sequence[tuple[Serving, str]]) -> int:
        """Queue as many of the users as there is room for; the others are dropped.

        Args:
            hinted: what will score a user, and the raw id.

        Returns:
            How many were queued.
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
        """Wait until every queued user was read."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def close(self) -> None:
        """Drop what is queued and under way."""
        self._queue.clear()
        for task in self._tasks:
            task.cancel()

    async def _work(self) -> None:
        while self._queue:
            serving, waiting = self._next_batch()
            try:
                await self._load(serving, waiting)
            except CacheUnavailableError:
                self._counts.followed("failed", len(waiting))
            except Exception:  # the outermost handler of this task
                log.exception("prefetch failed")
                self._counts.followed("failed", len(waiting))

    def _next_batch(self) -> tuple[Serving, deque[str]]:
        serving, first = self._queue.popleft()
        batch = deque([first])
        while self._queue and len(batch) < BATCH and self._queue[0][0] is serving:
            batch.append(self._queue.popleft()[1])
        return serving, batch

    async def _load(self, serving: Serving, waiting: deque[str]) -> None:
        """Read the users; each leaves `waiting` as it is counted."""
        wanted = [one for one in dict.fromkeys(waiting) if not self._host.holds(serving, one)]
        self._counts.followed("present", len(waiting) - len(wanted))
        waiting.clear()
        waiting.extend(wanted)
        began_s = self._host.clock()
        found = await self._store.read_many([serving.generation.key(one) for one in wanted])
        for user_id, raw in zip(wanted, found, strict=True):
            outcome = self._keep(serving, user_id, raw, began_s)
            waiting.popleft()
            self._counts.followed(outcome, 1)
            # Requests come first: decoding all of a batch would hold them up.
            await asyncio.sleep(0)

    def _keep(
        self, serving: Serving, user_id: str, raw: bytes | AbsorbError | None, began_s: float
    ) -> Outcome:
        if raw is None:
            return "absent"
        if isinstance(raw, AbsorbError):
            return "failed"
        try:
            user = read_user(raw, serving, user_id)
        except RecordError:
            return "failed"
        return "loaded" if self._host.put(serving, user_id, user, began_s) else "dropped"
