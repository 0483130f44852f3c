"""Runs slates: small ones on the event loop, others in the worker threads, alone, in pieces, or joined into batches.

Candidates do not see each other, so the scores of a slate's pieces are the scores of the slate.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise, starmap
from time import perf_counter
from typing import ParamSpec, TypeVar
from weakref import WeakKeyDictionary

import numpy as np

from service.runtime.batcher import Batcher
from service.runtime.engines.engine import CPU_DEVICE
from service.runtime.scorer import Scored, Scorer, Slate, UnknownFields
from service.runtime.workers import Workers
from service.scoring.admission import Admission, Permit

MIN_PIECE = 64
"""Candidates in a piece. With fewer, the user's part of the graph, which every piece repeats, is most of the work."""

KEPT = 0.9
"""What is left of an estimate after a faster slate: a slow one counts at once, and is forgotten over some twenty."""
UNKNOWN_S = float("inf")

P = ParamSpec("P")
Result = TypeVar("Result")
SlateBatcher = Batcher[Scorer, Slate, Scored]


class Costs:
    """How long slates take, as measured, for each scorer and size of a slate. Used by the event loop only."""

    def __init__(self) -> None:
        self._seconds: WeakKeyDictionary[Scorer, dict[int, float]] = WeakKeyDictionary()

    def estimate_s(self, scorer: Scorer, num_candidates: int) -> float:
        """Seconds that a slate will probably take; infinite if none of its size was measured.

        Sizes up to the next power of two count as one size, and users are taken to be alike: an estimate is the
        longest of the latest measured times.
        """
        by_size = self._seconds.get(scorer)
        return UNKNOWN_S if by_size is None else by_size.get(num_candidates.bit_length(), UNKNOWN_S)

    def note(self, scorer: Scorer, num_candidates: int, took_s: float) -> None:
        """Note a measured time.

        Args:
            scorer: what scored the slate.
            num_candidates: its candidates.
            took_s: seconds from ids to scores, without waiting for a thread.
        """
        by_size = self._seconds.get(scorer)
        if by_size is None:
            by_size = self._seconds[scorer] = {}
        size = num_candidates.bit_length()
        before_s = by_size.get(size, 0.0)
        by_size[size] = max(took_s, KEPT * before_s + (1 - KEPT) * took_s)


class Dispatcher:
    """Hands work to the worker threads, and keeps a request's permit until its work has ended."""

    def __init__(
        self,
        workers: Workers,
        admission: Admission,
        batcher: SlateBatcher | None,
        is_joining_on_cpu: bool = True,
        inline_s: float = 0.0,
        inline_alone_s: float = 0.0,
        num_arrived: Callable[[], int] = lambda: 0,
    ) -> None:
        """Store the dependencies.

        Args:
            workers: threads that score.
            admission: knows how many requests are in flight.
            batcher: joins slates into one run; None: every slate is a run of its own.
            is_joining_on_cpu: use the batcher also for a scorer that runs on the CPU.
            inline_s: seconds that a slate may take on the event loop; 0: every slate is scored in a thread.
            inline_alone_s: the same for a slate that is the only one in the process and that threads can share.
            num_arrived: gives the number of requests that have arrived over HTTP and are not answered.
        """
        self._workers = workers
        self._admission = admission
        self._batcher = batcher
        self._is_joining_on_cpu = is_joining_on_cpu
        self._inline_s = inline_s
        self._inline_alone_s = inline_alone_s
        self._num_arrived = num_arrived
        self._costs = Costs()

    async def score(self, permit: Permit, scorer: Scorer, slate: Slate) -> Scored:
        """Score a slate.

        Raises:
            OverloadedError: too many slates wait to be joined.
            ScoreError: the graph fails, or a score is not finite.
        """
        is_joining = self._is_joining_on_cpu or scorer.device != CPU_DEVICE
        if self._batcher is not None and is_joining:
            return await self._batcher.submit(scorer, slate, len(slate.candidates))
        num_candidates = len(slate.candidates)
        estimate_s = self._costs.estimate_s(scorer, num_candidates)
        if estimate_s < self._inline_s:
            (result,) = scorer.score_many([slate])
        elif scorer.is_shared:
            result = await self._score_shared(permit, scorer, slate, estimate_s)
        elif self._admission.in_flight == 1 and num_candidates >= 2 * MIN_PIECE:
            # Under load the slate stays whole: splitting would only recompute the user part, and every core is busy.
            return unless_error(
                await self.run(permit, score_in_pieces, scorer, slate, self._workers)
            )
        else:
            (result,) = await self.run(permit, scorer.score_many, [slate])
        scored = unless_error(result)
        self._costs.note(scorer, num_candidates, slate.ended["score"] - slate.ended["queue"])
        return scored

    async def _score_shared(
        self, permit: Permit, scorer: Scorer, slate: Slate, estimate_s: float
    ) -> Scored | Exception:
        """Score a slate with an engine whose threads can share it: if it is the only one, with all idle threads.

        If it is, nothing is won by leaving the event loop free for it, and waking a thread and the loop again costs
        more than a tenth of a millisecond.
        """
        # Also requests that wait in the event loop for this one to end: they have no permit yet.
        is_alone = self._admission.in_flight == 1 and self._num_arrived() <= 1
        if is_alone:
            slate = replace(slate, help=self._workers.help)
        if is_alone and estimate_s < self._inline_alone_s:
            (result,) = scorer.score_many([slate])
        else:
            (result,) = await self.run(permit, scorer.score_many, [slate])
        return result

    async def run(
        self, permit: Permit, work: Callable[P, Result], *args: P.args, **kwargs: P.kwargs
    ) -> Result:
        """Run `work` in a worker thread.

        If the caller is cancelled, work that has not begun is dropped. Work that has begun runs to its end; its result
        is thrown away, and the permit stays taken until then.
        """
        future = self._workers.submit(work, *args, **kwargs)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            if not future.cancel():
                permit.keep_until(future)
            raise

    async def run_unlimited(
        self, work: Callable[P, Result], *args: P.args, **kwargs: P.kwargs
    ) -> Result:
        """Run `work` in a worker thread without a permit: for probes."""
        return await asyncio.wrap_future(self._workers.submit(work, *args, **kwargs))


def score_in_pieces(scorer: Scorer, slate: Slate, workers: Workers) -> Scored | Exception:
    """Score a slate in one piece for each idle thread. Runs in a worker thread.

    A piece that no other thread has begun by the time this thread has finished its own is scored here, so this never
    waits for a thread to become free.
    """
    first, *others = _pieces(slate, workers) if scorer.device == CPU_DEVICE else [slate]
    futures = [workers.submit(_score, scorer, piece) for piece in others]
    results = [_score(scorer, first)]
    for piece, future in zip(others, futures, strict=True):
        results.append(_score(scorer, piece) if future.cancel() else future.result())
    slate.ended["score"] = perf_counter()
    return _joined(results)


def _pieces(slate: Slate, workers: Workers) -> list[Slate]:
    """Pieces of a slate; the first one notes its stages as the slate's."""
    num_candidates = len(slate.candidates)
    num_pieces = max(1, min(1 + workers.num_idle, num_candidates // MIN_PIECE))
    if num_pieces == 1:
        return [slate]
    bounds = np.linspace(0, num_candidates, num_pieces + 1).astype(int).tolist()
    first, *others = starmap(partial(_piece, slate), pairwise(bounds))
    return [first, *(replace(other, ended={}) for other in others)]


def _piece(slate: Slate, begin: int, end: int) -> Slate:
    fields = {name: values[begin:end] for name, values in slate.candidate_fields.items()}
    return replace(slate, candidates=slate.candidates[begin:end], candidate_fields=fields)


def _score(scorer: Scorer, slate: Slate) -> Scored | Exception:
    (result,) = scorer.score_many([slate])
    return result


def _joined(results: list[Scored | Exception]) -> Scored | Exception:
    scores, unknown, new, unknown_fields = [], [], [], UnknownFields()
    for result in results:
        if isinstance(result, Exception):
            return result
        scores.append(result.scores)
        unknown += result.unknown_candidates
        new += result.new_items
        for name, values in result.unknown_fields.items():
            unknown_fields[name] = list(dict.fromkeys([*unknown_fields.get(name, ()), *values]))
    return Scored(np.concatenate(scores), unknown, new, unknown_fields)


def unless_error(result: Scored | Exception) -> Scored:
    """Return the result; raise it if it is an error."""
    if isinstance(result, Exception):
        raise result
    return result
