"""Joins waiting requests into one run of the score graph: for a GPU, and for many small slates.

While a runner is free, a request starts at once; batches form from the requests that wait while every runner is busy.
So a quiet service adds no delay. With `wait_s` a free runner also waits that long for more requests. The batcher lives
on the event loop; only the runs are in threads.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from service.errors import OverloadedError

Key = TypeVar("Key", bound=Hashable)
Job = TypeVar("Job")
Result = TypeVar("Result")


@dataclass(frozen=True)
class BatchLimits:
    """Hard limits. No batch exceeds one of the first two, unless a single job does.

    Attributes:
        jobs: requests in one run.
        cells: users × candidates of the longest slate in one run, padding included; memory is proportional to it.
        queue: requests that wait; one more is rejected.
        wait_s: seconds that a free runner waits for more requests, from the arrival of the first.
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
class _Waiting(Generic[Key, Job, Result]):
    key: Key
    job: Job
    length: int
    arrived_s: float
    answer: "asyncio.Future[Result]"


@dataclass
class Batcher(Generic[Key, Job, Result]):
    """Runs jobs that share a key together, in the order of their arrival.

    Attributes:
        start: starts the run of a batch in a thread, given the key and the jobs. The run gives a result or an
            exception for each job, in order.
        limits: hard limits.
        observe: called with the size of every batch that starts.
    """

    start: "Callable[[Key, Sequence[Job]], Future[list[Result | Exception]]]"
    limits: BatchLimits
    observe: Callable[[int], None]
    _queue: "deque[_Waiting[Key, Job, Result]]" = field(default_factory=deque)
    _running: "set[asyncio.Task[None]]" = field(default_factory=set)
    _timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """Requests in the queue, including those whose caller has given up."""
        return len(self._queue)

    async def submit(self, key: Key, job: Job, length: int) -> Result:
        """Run a job with others, and return its result.

        Args:
            key: jobs of different keys are never run together.
            job: handed to `start`.
            length: candidates of its slate.

        Raises:
            OverloadedError: the queue is full.
            Exception: what the run gave, or raised, for this job.
        """
        if len(self._queue) >= self.limits.queue:
            self._drop_abandoned()
            if len(self._queue) >= self.limits.queue:
                raise OverloadedError(f"{self.limits.queue} requests wait for a batch")
        loop = asyncio.get_running_loop()
        entry = _Waiting[Key, Job, Result](key, job, length, loop.time(), loop.create_future())
        self._queue.append(entry)
        self._dispatch()
        return await entry.answer

    def _dispatch(self) -> None:
        """Start every batch that may start now; set a timer for the next one that may not yet."""
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

    def _next_batch(self) -> tuple[list[_Waiting[Key, Job, Result]], bool]:
        """The oldest request and later ones that fit beside it, and whether the batch is full."""
        batch: list[_Waiting[Key, Job, Result]] = []
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

    async def _run(self, batch: list[_Waiting[Key, Job, Result]]) -> None:
        self.observe(len(batch))
        jobs = [entry.job for entry in batch]
        try:
            results = await asyncio.wrap_future(self.start(batch[0].key, jobs))
            for entry, result in zip(batch, results, strict=True):
                _settle(entry.answer, result)
        except Exception as error:  # every waiting request must get it, whatever it is
            for entry in batch:
                _settle(entry.answer, error)
        finally:
            task = asyncio.current_task()
            if task is not None:
                self._running.discard(task)
            self._dispatch()


def _settle(answer: "asyncio.Future[Result]", result: Result | Exception) -> None:
    if answer.done():  # cancelled: its deadline passed, or the client left
        return
    if isinstance(result, Exception):
        answer.set_exception(result)
    else:
        answer.set_result(result)
