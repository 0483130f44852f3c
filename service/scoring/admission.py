"""Who is scored now, who waits, and who is sent away.

There are so many places for requests that are being scored, and so many in the queue behind them. A free place is
taken at once: no await, no task. Who finds none waits, those of a higher priority in front, and is sent away where the
queue is full, unless somebody of a lower priority waits: then the newest of the lowest is sent away in his stead.
Nobody waits longer than the limit. A place is given back when the work in it has ended, also where nobody waits for it
any more: a thread that still scores is a place that is still taken.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from service.errors import OverloadedError

HIGHEST, USUAL, LOWEST = 1, 3, 5
"""Priorities: 0 is the usual one, and all beyond the lowest are the lowest."""
MAX_RETRY_AFTER_S = 30
"""A client that is told to come back later than that will not."""
SHARE = 0.05
"""Of the latest request in the mean of their times: some twenty requests are remembered."""

Waiter = asyncio.Future[None]


def level_of(priority: int) -> int:
    """The level of a request's priority: one of `HIGHEST` to `LOWEST`."""
    return min(priority, LOWEST) if priority else USUAL


class Place:
    """One request's place. A context manager: leaving it gives the place back."""

    __slots__ = ("_admission", "_kept", "_since_s")

    def __init__(self, admission: "Admission") -> None:
        self._admission = admission
        self._kept = False
        self._since_s = time.monotonic()

    def __enter__(self) -> "Place":
        """The place, which is taken already."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give it back, unless work still goes on in it."""
        if not self._kept:
            self._give_back()

    def keep_until(self, work: "Future[Any]") -> None:
        """Give it back when `work` ends, which nobody can stop and nobody waits for."""
        self._kept = True
        loop = asyncio.get_running_loop()

        def ended(_: "Future[Any]") -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._give_back)

        work.add_done_callback(ended)

    def _give_back(self) -> None:
        self._admission.give_back(time.monotonic() - self._since_s)


class Admission:
    """The places and the queue. Used by one event loop's thread only.

    Attributes:
        in_flight: places that are taken.
        waiting: requests in the queue.
        refused: called with the reason whenever somebody is sent away: `queue_full`, `pushed_out` or `queue_wait`.
    """

    def __init__(
        self, limit: int, max_queue: int, max_wait_s: float, refused: Callable[[str], None]
    ) -> None:
        """Start with every place free.

        Args:
            limit: places.
            max_queue: of requests that wait; 0: nobody waits.
            max_wait_s: seconds that a request waits at most.
            refused: told of everybody who is sent away.
        """
        self.in_flight = 0
        self.waiting = 0
        self.refused = refused
        self._limit = limit
        self._max_queue = max_queue
        self._max_wait_s = max_wait_s
        self._queues: dict[int, deque[Waiter]] = {
            level: deque() for level in range(HIGHEST, LOWEST + 1)
        }
        self._mean_s = 0.0

    def take(self) -> Place | None:
        """A free place; None if there is none, and the caller has to `wait`."""
        # Who gives a place back hands it to the first in the queue: where somebody waits, none is free.
        if self.in_flight >= self._limit:
            return None
        self.in_flight += 1
        return Place(self)

    async def wait(self, priority: int) -> Place:
        """A place, once there is one.

        Raises:
            OverloadedError: the queue is full, or somebody of a higher priority took this place in it, or
                the wait was too long.
        """
        if (place := self.take()) is not None:
            return place
        level = level_of(priority)
        self._make_room(level)
        waiter: Waiter = asyncio.get_running_loop().create_future()
        self._queues[level].append(waiter)
        self.waiting += 1
        timer = asyncio.get_running_loop().call_later(
            self._max_wait_s, self._send_away, level, waiter, "queue_wait"
        )
        try:
            await waiter
        except asyncio.CancelledError:
            self._leave(level, waiter)
            raise
        finally:
            timer.cancel()
        return Place(self)

    def give_back(self, took_s: float) -> None:
        """Hand a place to the first who waits, or let it be free.

        Args:
            took_s: seconds that it was taken.
        """
        self._mean_s += (took_s - self._mean_s) * (SHARE if self._mean_s else 1.0)
        self._pass_on()

    def _pass_on(self) -> None:
        for queue in self._queues.values():
            while queue:
                waiter = queue.popleft()
                self.waiting -= 1
                if not waiter.done():  # a cancelled one has not run yet to leave
                    waiter.set_result(None)
                    return
        self.in_flight -= 1

    def retry_after_s(self) -> int:
        """Whole seconds after which those who are here now should be gone, at the pace of the latest requests."""
        needed_s = self._mean_s * (self.in_flight + self.waiting) / self._limit
        return max(1, min(MAX_RETRY_AFTER_S, math.ceil(needed_s)))

    def _make_room(self, level: int) -> None:
        """See to it that one more may wait on `level`; raises if not."""
        if self.waiting < self._max_queue:
            return
        for lower in range(LOWEST, level, -1):
            if self._queues[lower]:
                self._send_away(lower, self._queues[lower][-1], "pushed_out")
                return
        raise self._refusal("queue_full")

    def _send_away(self, level: int, waiter: Waiter, reason: str) -> None:
        if self._remove(level, waiter) and not waiter.done():
            waiter.set_exception(self._refusal(reason))

    def _leave(self, level: int, waiter: Waiter) -> None:
        """One who waited was cancelled: out of the queue, or, if he was given a place meanwhile, out of that."""
        if not self._remove(level, waiter) and not waiter.cancelled() and not waiter.exception():
            self._pass_on()

    def _remove(self, level: int, waiter: Waiter) -> bool:
        try:
            self._queues[level].remove(waiter)
        except ValueError:
            return False
        self.waiting -= 1
        return True

    def _refusal(self, reason: str) -> OverloadedError:
        self.refused(reason)
        why = {
            "queue_full": f"{self._limit} requests are being scored already, {self.waiting} wait",
            "pushed_out": "a request of a higher priority took the last place in the queue",
            "queue_wait": f"no place in {1000 * self._max_wait_s:g} ms",
        }
        return OverloadedError(why[reason], self.retry_after_s())
