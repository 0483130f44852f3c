"""Admission: which requests are scored now, which wait, and which are rejected.

At most `limit` requests hold a permit at once. A request takes a free permit without awaiting anything. If none is
free, it waits in a queue of bounded length, ordered by priority. If the queue is full, the request is rejected, unless
a request of a lower priority waits: then the newest of the lowest-priority waiters is rejected, and its position
becomes free. No request waits longer than the limit.

A permit is returned when the work under it has ended, also if the client has stopped waiting by then: a thread that
still scores still counts as one request in flight.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Any

from service.errors import DeadlineError, OverloadedError

HIGHEST, USUAL, LOWEST = 1, 3, 5
"""Priority levels."""
MAX_RETRY_AFTER_S = 30
"""Upper bound of Retry-After: clients that are told to wait longer do not return."""
NEWEST_WEIGHT = 0.05
"""Weight of the newest request in the mean duration: the mean covers about the last twenty requests."""

Waiter = asyncio.Future[None]


def level_of(priority: int) -> int:
    """Level, from `HIGHEST` to `LOWEST`, of a request's priority; 0 means `USUAL`, and above `LOWEST` is `LOWEST`."""
    return min(priority, LOWEST) if priority else USUAL


class Permit:
    """Permission to score one request. A context manager: leaving it returns the permit."""

    __slots__ = ("_admission", "_is_kept", "_taken_s")

    def __init__(self, admission: "Admission") -> None:
        self._admission = admission
        self._is_kept = False
        self._taken_s = time.monotonic()

    def __enter__(self) -> "Permit":
        """Return the permit, which is taken already."""
        return self

    def __exit__(self, *_: object) -> None:
        """Return the permit, unless work under it still runs."""
        if not self._is_kept:
            self._give_back()

    def keep_until(self, work: "Future[Any]") -> None:
        """Return the permit when `work` ends: it runs in a thread, cannot be stopped, and its result is not used."""
        self._is_kept = True
        loop = asyncio.get_running_loop()

        def work_ended(_: "Future[Any]") -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._give_back)

        work.add_done_callback(work_ended)

    def _give_back(self) -> None:
        self._admission.give_back(time.monotonic() - self._taken_s)


class Admission:
    """The permits and the queue. Used by the event loop's thread only.

    Attributes:
        in_flight: permits that are taken.
        waiting: requests in the queue.
    """

    def __init__(
        self, limit: int, max_queue: int, max_wait_s: float, on_reject: Callable[[str], None]
    ) -> None:
        """Start with every permit free.

        Args:
            limit: number of permits.
            max_queue: requests that may wait; 0: none.
            max_wait_s: seconds that a request may wait.
            on_reject: called for each rejected request with the reason: `queue_full`, `pushed_out`, `queue_wait` or
                `deadline`.
        """
        self.in_flight = 0
        self.waiting = 0
        self._on_reject = on_reject
        self._limit = limit
        self._max_queue = max_queue
        self._max_wait_s = max_wait_s
        self._queues: dict[int, deque[Waiter]] = {
            level: deque() for level in range(HIGHEST, LOWEST + 1)
        }
        self._mean_s = 0.0

    def admit(self, deadline: float | None, priority: int) -> "Admitted":
        """Hold a permit, until the deadline at most: `async with admission.admit(...) as permit`.

        The event loop keeps the deadline, not the threads: the request ends then, also while it waits in the queue,
        for the cache, or for a score that still runs.

        Args:
            deadline: moment of `time.monotonic()`; None: there is none.
            priority: the priority of the `Query`.

        Raises:
            OverloadedError: too many requests at once.
            DeadlineError: the deadline passed.
        """
        return Admitted(self, deadline, priority)

    def late(self) -> DeadlineError:
        """Count a request whose deadline passed; returns its error."""
        self._on_reject("deadline")
        return DeadlineError()

    def take(self) -> Permit | None:
        """Take a free permit; None if there is none, and the caller has to `wait`."""
        # A returned permit goes straight to the first waiter: while a request waits, no permit is free.
        if self.in_flight >= self._limit:
            return None
        self.in_flight += 1
        return Permit(self)

    async def wait(self, priority: int) -> Permit:
        """Wait for a permit.

        Raises:
            OverloadedError: the queue is full, a request of a higher priority took this one's position, or the wait
                was too long.
        """
        if (permit := self.take()) is not None:
            return permit
        level = level_of(priority)
        self._make_room(level)
        loop = asyncio.get_running_loop()
        waiter: Waiter = loop.create_future()
        self._queues[level].append(waiter)
        self.waiting += 1
        timer = loop.call_later(self._max_wait_s, self._reject, level, waiter, "queue_wait")
        try:
            await waiter
        except asyncio.CancelledError:
            self._leave(level, waiter)
            raise
        finally:
            timer.cancel()
        return Permit(self)

    def give_back(self, held_s: float) -> None:
        """Hand a permit to the first waiter, or make it free.

        Args:
            held_s: seconds that the permit was held.
        """
        self._mean_s += (held_s - self._mean_s) * (NEWEST_WEIGHT if self._mean_s else 1.0)
        self._hand_on()

    def _hand_on(self) -> None:
        for queue in self._queues.values():
            while queue:
                waiter = queue.popleft()
                self.waiting -= 1
                if not waiter.done():  # a cancelled waiter stays in the queue until its task runs
                    waiter.set_result(None)
                    return
        self.in_flight -= 1

    def retry_after_s(self) -> int:
        """Whole seconds in which all present requests should end, at the mean duration of the latest ones."""
        needed_s = self._mean_s * (self.in_flight + self.waiting) / self._limit
        return max(1, min(MAX_RETRY_AFTER_S, math.ceil(needed_s)))

    def _make_room(self, level: int) -> None:
        """Make sure that one more request may wait at `level`; raises OverloadedError if not."""
        if self.waiting < self._max_queue:
            return
        for lower in range(LOWEST, level, -1):
            if self._queues[lower]:
                self._reject(lower, self._queues[lower][-1], "pushed_out")
                return
        raise self._rejection("queue_full")

    def _reject(self, level: int, waiter: Waiter, reason: str) -> None:
        if self._remove(level, waiter) and not waiter.done():
            waiter.set_exception(self._rejection(reason))

    def _leave(self, level: int, waiter: Waiter) -> None:
        """Clean up after a cancelled waiter: leave the queue, or hand on the permit that it got meanwhile."""
        if not self._remove(level, waiter) and not waiter.cancelled() and not waiter.exception():
            self._hand_on()

    def _remove(self, level: int, waiter: Waiter) -> bool:
        try:
            self._queues[level].remove(waiter)
        except ValueError:
            return False
        self.waiting -= 1
        return True

    def _rejection(self, reason: str) -> OverloadedError:
        self._on_reject(reason)
        texts = {
            "queue_full": f"{self._limit} requests are being scored, and {self.waiting} wait",
            "pushed_out": "the queue is full, and a request of a higher priority took this one's position",
            "queue_wait": f"no permit became free in {1000 * self._max_wait_s:g} ms",
        }
        return OverloadedError(texts[reason], self.retry_after_s())


class Admitted:
    """One admission: an asynchronous context manager that gives the permit. `Admission.admit` makes it."""

    __slots__ = (
        "_admission",
        "_deadline",
        "_has_rung",
        "_num_cancellations",
        "_permit",
        "_priority",
        "_task",
        "_timer",
    )

    _permit: Permit
    _task: "asyncio.Task[Any] | None"
    _timer: asyncio.TimerHandle

    def __init__(self, admission: Admission, deadline: float | None, priority: int) -> None:
        self._admission = admission
        self._deadline = deadline
        self._priority = priority

    async def __aenter__(self) -> Permit:
        """Take a permit, or wait for one."""
        self._start()
        permit = self._admission.take()
        if permit is None:
            try:
                permit = await self._admission.wait(self._priority)
            except BaseException as error:
                self._end(error)
                raise
        self._permit = permit
        return permit

    async def __aexit__(
        self, _: object, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Return the permit, and end the request if its time is over."""
        self._permit.__exit__()
        self._end(error)

    def _start(self) -> None:
        # As asyncio.timeout, which costs twice as much, and does not notice that the time was over before the code
        # inside waited for anything.
        if self._deadline is None:
            return
        loop = asyncio.get_running_loop()
        self._task = asyncio.current_task(loop)
        self._num_cancellations = self._task.cancelling() if self._task is not None else 0
        self._has_rung = False
        self._timer = loop.call_later(max(0.0, self._deadline - time.monotonic()), self._ring)

    def _ring(self) -> None:
        if self._task is not None:
            self._has_rung = True
            self._task.cancel()

    def _end(self, error: BaseException | None) -> None:
        if self._deadline is None:
            return
        self._timer.cancel()
        if self._has_rung and self._task is not None:
            # The cancellation was ours, unless there was another: then that one is passed on.
            is_ours = self._task.uncancel() <= self._num_cancellations
            is_late = is_ours and isinstance(error, asyncio.CancelledError)
        else:
            is_late = error is None and time.monotonic() > self._deadline
        if is_late:
            raise self._admission.late() from error
