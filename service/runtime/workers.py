"""The threads in which records are decoded and scored, and how long each has been at its present piece of work.

A thread that never ends cannot be stopped from outside; it can be noticed, and this process taken out of service.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
Result = TypeVar("Result")


class Workers:
    """A pool of threads.

    Attributes:
        num_ended: pieces of work that have ended so far, one way or another.
    """

    def __init__(self, num_threads: int) -> None:
        """Threads start with their first work.

        Args:
            num_threads: how many pieces of work go on at the same time.
        """
        self.num_ended = 0
        self._num_threads = num_threads
        self._pool = ThreadPoolExecutor(num_threads, thread_name_prefix="scorer")
        self._since_s: dict[int, float] = {}

    def submit(
        self, work: Callable[P, Result], *args: P.args, **kwargs: P.kwargs
    ) -> "Future[Result]":
        """Begin `work` as soon as a thread is free.

        Raises:
            RuntimeError: the pool is shut down, or broken.
        """
        return self._pool.submit(self._watched, partial(work, *args, **kwargs))

    def _watched(self, work: Callable[[], Result]) -> Result:
        me = threading.get_ident()
        self._since_s[me] = time.monotonic()
        try:
            return work()
        finally:
            del self._since_s[me]
            self.num_ended += 1  # two threads may lose one: all that counts is whether it moves

    @property
    def num_idle(self) -> int:
        """Threads without work at this moment; the next one may change it."""
        return max(0, self._num_threads - len(self._since_s))

    def longest_s(self) -> float:
        """Seconds that the slowest piece of work has been going on; 0 where none is."""
        # A copy, made in one step of the interpreter: threads come and go meanwhile.
        since_s = list(self._since_s.values())
        return time.monotonic() - min(since_s) if since_s else 0.0

    def shutdown(self) -> None:
        """Take nothing new, and end the threads when they have nothing left to do."""
        self._pool.shutdown(wait=True)
