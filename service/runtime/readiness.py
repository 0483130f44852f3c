"""Readiness: whether this process should get requests. Checked in the background, so that a probe is answered at once.

A Kubernetes probe waits one second and must not wait for a score that hangs. So a background task scores once every
half second in the threads that score for clients, and the probe reads the latest result. The process is not ready if
that result is too old, or if a thread has been at one piece of work for longer than any slate takes.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from models.contract.errors import AbsorbError
from service.errors import NotReadyError
from service.runtime.workers import Workers

INTERVAL_S = 0.5
"""Seconds between two checks."""
NOT_READY_INTERVAL_S = 0.05
"""The same while the process is not ready: a loaded model should serve at once."""
LIMIT_S = 2.0
"""Maximum seconds of one check; scoring one candidate takes about a thousandth of it."""
MAX_AGE_S = 2 * (INTERVAL_S + LIMIT_S)
"""Seconds after which a result no longer counts: the checks have stopped."""
STUCK_S = 10.0
"""Seconds after which a thread counts as stuck; the longest slates take well under one."""

log = logging.getLogger(__name__)


class Readiness:
    """Checks whether scoring works, and keeps the latest result."""

    def __init__(self, probe: Callable[[], Awaitable[None]], workers: Workers) -> None:
        """Start as not ready: nothing was checked yet.

        Args:
            probe: scores once; raises if that does not work.
            workers: threads that it scores in.
        """
        self._probe = probe
        self._workers = workers
        self._problem: str | None = "not ready: no score was tried yet"
        self._checked_s = time.monotonic()
        self._is_draining = False

    def drain(self) -> None:
        """Become not ready for the rest of the process's life: it gets no new requests."""
        self._is_draining = True

    def check(self) -> None:
        """Return if this process should get requests; never waits.

        Raises:
            NotReadyError: it should not, with the reason.
        """
        if self._is_draining:
            raise NotReadyError("not ready: draining, this process is about to end")
        if (busy_s := self._workers.longest_s()) > STUCK_S:
            raise NotReadyError(f"not ready: a thread has been scoring for {busy_s:.0f} s")
        if self._problem is not None:
            raise NotReadyError(self._problem)
        if (age_s := time.monotonic() - self._checked_s) > MAX_AGE_S:
            raise NotReadyError(f"not ready: the latest score was tried {age_s:.0f} s ago")

    def is_ready(self) -> bool:
        """Whether this process should get requests."""
        try:
            self.check()
        except NotReadyError:
            return False
        return True

    async def run(self) -> None:
        """Check until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(INTERVAL_S if self._problem is None else NOT_READY_INTERVAL_S)

    async def look(self) -> None:
        """Score once, and keep the result."""
        ended = self._workers.num_ended
        problem: str | None = None
        try:
            async with asyncio.timeout(LIMIT_S):
                await self._probe()
        except TimeoutError:
            # If other work ended meanwhile, the threads are busy, not broken: taking this process out of service
            # would move its load to processes that are just as busy.
            if self._workers.num_ended == ended:
                problem = f"not ready: no score in {LIMIT_S:g} s"
        except AbsorbError as error:
            problem = str(error)
        except Exception as error:  # ONNX Runtime's errors have no base class of their own
            problem = "not ready: a score failed; the log says more"
            if problem != self._problem:
                log.error("scoring does not work", exc_info=error)
        self._problem = problem
        self._checked_s = time.monotonic()
