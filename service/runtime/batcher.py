"""Joins waiting requests into one run of the score graph: for a GPU, and for many small slates.

A request leaves at once while a runner is free: batches form of those that wait while every runner is busy, so a quiet
service adds no delay. With `wait_s` a free runner also waits that long for company. Lives on the event loop; only the
runs are in threads.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from service.errors import OverloadedError

Job = TypeVar("Job")
Result = TypeVar("Result")


@dataclass(frozen=True)
class BatchLimits:
    """Hard limits; no batch ever exceeds one of the first two, unless a single job does.

    Attributes:
        jobs: requests in one run.
        cells: users × candidates of the longest slate in one run, what is padded included: what memory goes with.
        queue: requests that wait; one more is refused.
        wait_s: seconds that a free runner waits for company, from the first one's arrival.
        runners: runs at the same time.
    """

    jobs: int
    cells: int
    queue: int
    wait_s: float
    runners: int

    def __post_init__(self) -> None:
        for name in ("jobs", "cells", "queue", "runners"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: got {getattr(self, name)}, expected 1 or more")
        if self.wait_s < 0:
            raise ValueError(f"wait_s: got {self.wait_s}, expected 0 or more")


@dataclass
class _Waiting(Generic[Job, Result]):
    key: Hashable
    job: Job
    length: int
    arrived_s: float
    answer: "asyncio.Future[Result]"


@dataclass
class Batcher(Generic[Job, Result]):
    """Runs jobs that share a key together, in the order in which they came.

    Attributes:
        start: begins a batch's run in a thread; it gives a result or an exception for each job, in order.
        limits: hard ones.
        observe: told the size of every batch that leaves.
    """

    start: "Callable[[Sequence[Job]], Future[list[Result | Exception]]]"
    limits: BatchLimits
    observe: Callable[[int], None]
    _queue: "deque[_Waiting[Job, Result]]" = field(default_factory=deque)
    _running: "set[asyncio.Task[None]]" = field(default_factory=set)
    _timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """Requests in the queue, those that were given up meanwhile included."""
        return len(self._queue)

    async def submit(self, key: Hashable, job: Job, length: int) -> Result:
        """What the run gives for the job.

        Args:
            key: jobs of different keys are never run together.
            job: handed to `start`.
            length: of its slate.

        Raises:
            OverloadedError: the queue is full.
            Exception: what its run gave, or raised, for it.
        """
        if len(self._queue) >= self.limits.queue:
            self._drop_abandoned()
            if len(self._queue) >= self.limits.queue:
                raise OverloadedError(f"{self.limits.queue} requests wait for a batch")
        loop = asyncio.get_running_loop()
        entry = _Waiting[Job, Result](key, job, length, loop.time(), loop.create_future())
        self._queue.append(entry)
        self._dispatch()
        return await entry.answer

    def _dispatch(self) -> None:
        """Send off what may leave now; see to it that what may not is looked at again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._drop_abandoned()
        loop = asyncio.get_running_loop()
        while self._queue and len(self._running) < self.limits.runners:
            batch, is_full = self._next_batch()
            due_s = batch[0].arrived_s + self.limits.wait_s
            if not is_full and loop.time() < due_s:
                self._timer = loop.call_at(due_s, self._dispatch)
                return
            taken = set(map(id, batch))
            self._queue = deque(entry for entry in self._queue if id(entry) not in taken)
            task = loop.create_task(self._run(batch))
            self._running.add(task)

    def _drop_abandoned(self) -> None:
        self._queue = deque(entry for entry in self._queue if not entry.answer.done())

    def _next_batch(self) -> tuple[list[_Waiting[Job, Result]], bool]:
        """The oldest request and those after it that fit beside it; and whether one more would not."""
        batch: list[_Waiting[Job, Result]] = []
        longest = 0
        for entry in self._queue:
            if batch and entry.key != batch[0].key:
                continue
            padded = max(longest, entry.length) * (len(batch) + 1)
            if batch and padded > self.limits.cells:
                return batch, True
            batch.append(entry)
            longest = max(longest, entry.length)
            if len(batch) == self.limits.jobs:
                return batch, True
        return batch, longest * (len(batch) + 1) > self.limits.cells

    async def _run(self, batch: list[_Waiting[Job, Result]]) -> None:
        self.observe(len(batch))
        jobs = [entry.job for entry in batch]
        try:
            results = await asyncio.wrap_future(self.start(jobs))
            for entry, result in zip(batch, results, strict=True):
                _settle(entry.answer, result)
        except Exception as error:  # whoever waits must hear of it, whatever it is
            for entry in batch:
                _settle(entry.answer, error)
        finally:
            task = asyncio.current_task()
            if task is not None:
                self._running.discard(task)
            self._dispatch()


def _settle(answer: "asyncio.Future[Result]", result: Result | Exception) -> None:
    if answer.done():  # given up: by its deadline, or since the client left
        return
    if isinstance(result, Exception):
        answer.set_exception(result)
    else:
        answer.set_result(result)
