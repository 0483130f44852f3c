"""How a request gets to the threads that score: through the admission, within its time, out again in any case."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from service.errors import DeadlineError
from service.observability.metrics import Telemetry
from service.runtime.batcher import Batcher
from service.runtime.workers import Workers
from service.scoring.admission import Admission, Place
from service.scoring.compute import Job, Scored, compute, unless_error
from service.settings import Settings

P = ParamSpec("P")
Answer = TypeVar("Answer")
Answering = Callable[[Place], Coroutine[Any, Any, Answer]]


class Gate:
    """Lets requests in, as many as the settings say, for as long as each has time."""

    def __init__(
        self,
        settings: Settings,
        workers: Workers,
        telemetry: Telemetry,
        batcher: Batcher[Job, Scored] | None,
    ) -> None:
        """Open it.

        Args:
            settings: the limits are read from here.
            workers: threads that score.
            telemetry: shows how many are in, and how many wait; counts those sent away.
            batcher: joins slates into one run; None: each is a run of its own.
        """
        self._workers = workers
        self._batcher = batcher
        self._rejected = telemetry.rejected
        self._admission = Admission(
            settings.max_in_flight,
            settings.max_queue,
            settings.max_queue_wait_ms / 1000,
            telemetry.rejected,
        )
        telemetry.in_flight.set_function(lambda: self._admission.in_flight)
        telemetry.queue_depth.set_function(lambda: self._admission.waiting)

    async def admit(
        self, deadline: float | None, priority: int, answering: "Answering[Answer]"
    ) -> Answer:
        """What `answering` gives, in one of the places.

        The time is kept by the event loop, not by the threads: a request whose time is over is answered then, also
        while it waits in a queue, for the cache, or for a score that goes on.

        Args:
            deadline: moment of `time.monotonic()` at which nobody waits any more; None: there is none.
            priority: of `Query`.
            answering: called with the place.

        Raises:
            OverloadedError: too many requests at once.
            DeadlineError: the time is over.
        """
        if deadline is None:
            return await self._in_place(priority, answering)
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                return await self._in_place(priority, answering)
        except TimeoutError as error:
            self._rejected("deadline")
            raise DeadlineError from error

    async def _in_place(self, priority: int, answering: "Answering[Answer]") -> Answer:
        with self._admission.take() or await self._admission.wait(priority) as place:
            return await answering(place)

    async def work(
        self, place: Place, work: Callable[P, Answer], *args: P.args, **kwargs: P.kwargs
    ) -> Answer:
        """What `work` gives, from one of the threads.

        Work that nobody waits for any more is dropped if it has not begun. If it has, it ends, what it gives is thrown
        away, and the place is taken until then.
        """
        future = self._workers.submit(work, *args, **kwargs)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            if not future.cancel():
                place.keep_until(future)
            raise

    async def score(self, place: Place, job: Job) -> Scored:
        """A slate's scores.

        Raises:
            OverloadedError: too many slates wait to be joined.
            ArtifactError: a score is not finite.
        """
        if self._batcher is not None:
            return await self._batcher.submit(job.serving.scorer, job, len(job.candidates))
        # Under load pieces would but compute the user's part more than once, and cores have no time for them anyway.
        helpers = self._workers if self._admission.in_flight == 1 else None
        (result,) = await self.work(place, compute, [job], helpers)
        return unless_error(result)

    async def past(self, work: Callable[P, Answer], *args: P.args, **kwargs: P.kwargs) -> Answer:
        """What `work` gives, from one of the threads, past every limit: for probes."""
        return await asyncio.wrap_future(self._workers.submit(work, *args, **kwargs))
