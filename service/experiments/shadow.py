"""Shadows: a second model scores a share of a model's requests, to measure how far the two agree.

The shadow's scores are not returned to the client. A shadow starts after the answer is sent and scores in its own
thread. It takes few requests at the same time and drops the others, so that a slow shadow loses samples but delays no
request. It reads the cache without the host tier, and its lookups have their own counter.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from service.experiments.metrics import TrafficMetrics
from service.experiments.ranking import Agreement, agreements
from service.generations.selection import Selection
from service.generations.serving import Serving
from service.observability.request_context import CURRENT
from service.traffic_rules import ShadowRule

if TYPE_CHECKING:
    from service.query import Query, Scores

MAX_AT_ONCE = 2
"""One request that is scored, and one that waits for its record."""
TOP_K = 10

log = logging.getLogger(__name__)
Score = Callable[[Serving, "Query", Executor], Awaitable["Scores"]]


class Shadows:
    """All shadows of a service."""

    def __init__(
        self,
        rules: Sequence[ShadowRule],
        selection: Selection,
        metrics: TrafficMetrics,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """Start with no request running.

        Args:
            rules: the operator's setting.
            selection: what serves now, the shadows included.
            metrics: metrics of experiments and shadows.
            draw: returns a random number in [0, 1), which selects requests.
        """
        self._rules = {
            rule.model: [other for other in rules if other.model == rule.model] for rule in rules
        }
        self._selection = selection
        self._metrics = metrics
        self._draw = draw
        self._running: set[asyncio.Task[None]] = set()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="shadow")

    def offer(self, answer: "Scores", score: Score) -> None:
        """Decide whether shadows score this request as well; they start after the answer is sent.

        Args:
            answer: about to be sent.
            score: scores in the given executor, without counting a request.
        """
        for rule in self._rules.get(answer.generation.model, ()):
            if self._draw() < rule.share:
                start = partial(self._start, rule, answer, score)
                request = CURRENT.get()
                if request is None:
                    asyncio.get_running_loop().call_soon(start)
                else:
                    request.later.append(start)

    def _start(self, rule: ShadowRule, answer: "Scores", score: Score) -> None:
        if len(self._running) >= MAX_AT_ONCE:
            self._metrics.shadowed(rule.model, rule.shadow, "dropped")
            return
        task = asyncio.get_running_loop().create_task(self._run(rule, answer, score))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _run(self, rule: ShadowRule, answer: "Scores", score: Score) -> None:
        try:
            other = await self._score(rule, answer, score)
            difference, agreement = await asyncio.get_running_loop().run_in_executor(
                self._thread, compare, answer, other
            )
        except Exception as error:  # outermost handler: the client already has its answer
            self._metrics.shadowed(rule.model, rule.shadow, "failed")
            fields = {"model": rule.model, "shadow": rule.shadow, "error": str(error)}
            log.debug("shadow failed", extra=fields, exc_info=error)
            return
        self._metrics.compared(rule.model, rule.shadow, difference, agreement)
        self._metrics.shadowed(rule.model, rule.shadow, "compared")

    async def _score(self, rule: ShadowRule, answer: "Scores", score: Score) -> "Scores":
        serving = self._selection.pick(rule.shadow)
        known = answer.query.known_to(serving.artifact.vocabulary)
        query = replace(known, model=rule.shadow, deadline=None)
        other = await score(serving, query, self._thread)
        self._metrics.looked_up(rule.shadow, other.found.source)
        return other

    async def close(self) -> None:
        """Cancel the running shadows and stop the thread."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        self._thread.shutdown(wait=False, cancel_futures=True)


def compare(left: "Scores", right: "Scores") -> tuple[float, Agreement]:
    """Mean absolute difference of the scores, and agreement of the rankings."""
    difference = float(np.abs(left.scores - right.scores).mean())
    (agreement,) = agreements({"left": left.scores, "right": right.scores}, TOP_K)
    return difference, agreement
