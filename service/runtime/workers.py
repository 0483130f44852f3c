"""The worker threads, which decode large records and score, and how long each has been at its present work.

Work that never ends cannot be stopped from outside. It can be detected, and the process taken out of service.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from service.runtime.placement import Placement

P = ParamSpec("P")
Result = TypeVar("Result")


class Workers:
    """A pool of threads.

    Attributes:
        num_ended: how much work has ended so far, successfully or not.
    """

    def __init__(self, num_threads: int) -> None:
        """Start no thread yet: each starts with its first work.

        Args:
            num_threads: work that runs at the same time.
        """
        self.num_ended = 0
        self._num_threads = num_threads
        self._pool = ThreadPoolExecutor(num_threads, thread_name_prefix="scorer")
        self._placement = Placement()
        self._since_s: dict[int, float] = {}

    def submit(
        self, work: Callable[P, Result], *args: P.args, **kwargs: P.kwargs
    ) -> "Future[Result]":
        """Run `work` as soon as a thread is free.

        Raises:
            RuntimeError: the pool is shut down, or broken.
        """
        return self._pool.submit(self._timed, partial(work, *args, **kwargs))

    def _timed(self, work: Callable[[], Result]) -> Result:
        self._placement.began()
        thread = threading.get_ident()
        self._since_s[thread] = time.monotonic()
        try:
            return work()
        finally:
            del self._since_s[thread]
            self.num_ended += 1  # a race may lose one: readers only look whether it changes

    def help(self, work: Callable[[], None], most: int) -> None:
        """Run `work` in the idle threads, and in at most `most`; the calling thread takes the place of one of them."""
        helpers = min(most, self.num_idle, self._num_threads - 1)
        if helpers > 0:
            self._placement.keep_off()
        for _ in range(helpers):
            self._pool.submit(self._timed, work)

    @property
    def num_idle(self) -> int:
        """Threads without work at this moment."""
        return max(0, self._num_threads - len(self._since_s))

    def longest_s(self) -> float:
        """Seconds that the oldest running work has taken so far; 0 if none runs."""
        # list() copies in one step of the interpreter: threads change the dict meanwhile.
        since_s = list(self._since_s.values())
        return time.monotonic() - min(since_s) if since_s else 0.0

    def shutdown(self) -> None:
        """Take no new work, wait for the rest, and end the threads."""
        self._pool.shutdown(wait=True)
