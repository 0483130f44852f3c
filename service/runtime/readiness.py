"""Whether this process should get requests: found out all the time, so that a probe is answered at once.

A probe of Kubernetes waits a second at most and must not wait for a score that hangs. So a task of its own scores once
every half second through the threads that score for clients, and the probe reads what it found. A finding that is too
old counts as bad news, as does a thread that has been at one piece of work for longer than anything takes.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from models.contract.errors import AbsorbError
from service.errors import NotReadyError
from service.runtime.workers import Workers

EVERY_S = 0.5
"""Seconds between two looks."""
SOON_S = 0.05
"""The same while it is not ready: a model that was loaded serves at once."""
LIMIT_S = 2.0
"""Seconds that a look takes at most: the model's score of one candidate takes a thousandth of it."""
MAX_AGE_S = 2 * (EVERY_S + LIMIT_S)
"""Seconds after which nobody believes a finding: looks have stopped."""
STUCK_S = 10.0
"""Seconds after which a thread's work is taken for one that never ends: the longest slates take well under one."""

log = logging.getLogger(__name__)


class Readiness:
    """The latest finding."""

    def __init__(self, probe: Callable[[], Awaitable[None]], workers: Workers) -> None:
        """Nothing is found yet.

        Args:
            probe: scores once; raises if that does not work.
            workers: the threads it scores in.
        """
        self._probe = probe
        self._workers = workers
        self._problem: str | None = "not ready: no score was tried yet"
        self._found_s = time.monotonic()
        self._is_draining = False

    def drain(self) -> None:
        """From now on this process gets no new requests, and is never ready again."""
        self._is_draining = True

    def check(self) -> None:
        """Return at once if this process should get requests.

        Raises:
            NotReadyError: it should not; says why.
        """
        if self._is_draining:
            raise NotReadyError("not ready: draining, this process is about to end")
        if (busy_s := self._workers.longest_s()) > STUCK_S:
            raise NotReadyError(f"not ready: a thread has been scoring for {busy_s:.0f} s")
        if self._problem is not None:
            raise NotReadyError(self._problem)
        if (age_s := time.monotonic() - self._found_s) > MAX_AGE_S:
            raise NotReadyError(f"not ready: the latest score was tried {age_s:.0f} s ago")

    def is_ready(self) -> bool:
        """Whether `check` returns."""
        try:
            self.check()
        except NotReadyError:
            return False
        return True

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await self.look()
            await asyncio.sleep(EVERY_S if self._problem is None else SOON_S)

    async def look(self) -> None:
        """Score once, and remember how it went."""
        ended = self._workers.num_ended
        problem: str | None = None
        try:
            async with asyncio.timeout(LIMIT_S):
                await self._probe()
        except TimeoutError:
            # Where others' work ends meanwhile, the threads are busy, not broken: to take this process out of
            # service then would leave its load to others that are as busy.
            if self._workers.num_ended == ended:
                problem = f"not ready: no score in {LIMIT_S:g} s"
        except AbsorbError as error:
            problem = str(error)
        except Exception as error:  # ONNX Runtime's errors have no base class of their own
            problem = "not ready: a score failed; the log says more"
            if problem != self._problem:
                log.error("scoring does not work", exc_info=error)
        self._problem = problem
        self._found_s = time.monotonic()
