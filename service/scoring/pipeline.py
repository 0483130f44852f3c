"""Query -> state -> scores: the one place that decides what a request is scored from.

| the cache                                    | source      | scored from      | degraded |
|----------------------------------------------|-------------|------------------|----------|
| holds a record of this artifact and user     | hit         | the record       | no       |
| the same, older than `stale_after_s`         | stale       | the record       | yes      |
| holds nothing for the user                   | miss        | cold-start state | yes      |
| holds bytes that are no record of this user  | corrupt     | cold-start state | yes      |
| gives no answer in `cache_timeout_ms`        | unavailable | cold-start state | yes      |

A record whose state gives no finite score is corrupt as well, for its user alone, if the cold-start state gives scores.

A comparison scores with one model after another, each as above. If a model fails, its error takes the place of its
scores; if all fail, the request fails with the first error.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from time import perf_counter

from models.contract.errors import AbsorbError, CorruptRecordError, RecordError, RequestError
from models.contract.vocabulary import check_candidate_fields
from service.errors import BrokenModelError, NotReadyError, ScoreError, UnknownUserError
from service.experiments.shadow import Shadows
from service.experiments.split import Traffic
from service.generations.selection import Selection
from service.generations.serving import Serving
from service.observability.metrics import Telemetry
from service.observability.request_context import CURRENT
from service.query import (
    FoundState,
    Query,
    Scores,
    Stages,
    StoredUser,
    cold_start,
)
from service.runtime.engines.engine import Ids
from service.runtime.scorer import Scored, Scorer, Slate
from service.scoring.admission import LOWEST, Admission, Permit
from service.scoring.comparison import Comparison, check_fields, join
from service.scoring.compute import Dispatcher, unless_error
from service.scoring.score_errors import state_after
from service.settings import Settings
from service.state.build import Tiers
from service.state.cached_user import read_record

DEFAULT_TOP_K = 10
"""Candidates of a comparison's rankings if the request does not say."""

Run = Callable[[Scorer, Slate], Awaitable[Scored]]

log = logging.getLogger(__name__)


class Pipeline:
    """Answers queries. Never blocks the event loop."""

    def __init__(
        self,
        settings: Settings,
        selection: Selection,
        tiers: Tiers,
        telemetry: Telemetry,
        admission: Admission,
        dispatcher: Dispatcher,
        traffic: Traffic | None,
        shadows: Shadows,
    ) -> None:
        """Store the dependencies.

        Args:
            settings: limits of candidates and times.
            selection: what serves now.
            tiers: where states are looked up.
            telemetry: metrics.
            admission: limits the requests in flight.
            dispatcher: runs the scorer in threads.
            traffic: picks the models of experiments; None: no experiment is configured.
            shadows: score a share of the answered requests with a second model.
        """
        self._settings = settings
        self._selection = selection
        self._tiers = tiers
        self._telemetry = telemetry
        self._admission = admission
        self._dispatcher = dispatcher
        self._traffic = traffic
        self._shadows = shadows

    async def score(self, query: Query) -> Scores:
        """Score the candidates.

        Raises:
            OverloadedError: too many requests at once.
            DeadlineError: the query's deadline passed.
            RequestError: no candidates, too many, or a context or candidate field that the model does not have.
            UnknownModelError: no such model.
            NotReadyError: nothing is loaded yet.
            BrokenModelError: the model gives no finite scores.
        """
        request = CURRENT.get()
        if request is not None:
            request.parsed = perf_counter()
            request.users.append(query.user_id)
        self._check_candidates(query.candidates)
        async with self._admission.admit(query.deadline, query.priority) as permit:
            # After the permit: another generation may begin to serve while this request waits for it.
            serving, query = self._pick(query)
            if request is not None:
                request.model = serving.generation.model
            answer = await self._score(serving, query, permit)
            if request is not None:
                found = answer.found
                is_degraded, stages = found.reason is not None, answer.stages
                request.answer(answer.generation.name, found.source, is_degraded, stages)
            self._shadows.offer(answer, self.rehearse)
            return answer

    def _pick(self, query: Query) -> tuple[Serving, Query]:
        """What scores the query, and the query with the fields that it takes.

        The models of an experiment need not have the same fields. Clients do not know which of them scores, so fields
        of the others are no error.
        """
        if self._traffic is None:
            return self._selection.pick(query.model), query
        serving = self._traffic.pick(query.model, query.user_id)
        names = self._traffic.models_of(query.model)
        if not names:
            return serving, query
        check_fields([*map(self._selection.current, names), serving], query)
        return serving, query.known_to(serving.artifact.vocabulary)

    async def compare(
        self, query: Query, models: Sequence[str] | None, top_k: int | None
    ) -> Comparison:
        """Score the candidates with each of `models`; None: with all that serve.

        Raises:
            OverloadedError: too many requests at once.
            DeadlineError: the query's deadline passed.
            RequestError: no candidates, too many, or a context or candidate field that none of the models has.
            UnknownModelError: no such model.
            NotReadyError: none of the models is loaded yet.
            ArtifactError: none of the models can score.
        """
        request = CURRENT.get()
        if request is not None:
            request.users.append(query.user_id)
        self._check_candidates(query.candidates)
        top_k = min(top_k or DEFAULT_TOP_K, len(query.candidates))
        async with self._admission.admit(query.deadline, query.priority) as permit:
            picked = self._selection.pick_several(models)
            check_fields(picked.values(), query)
            # One after another: a comparison holds one permit, and no more than one thread at a time.
            outcomes = {
                model: await self._attempt(serving, query, permit)
                for model, serving in picked.items()
            }
            self._report_failures(outcomes)
            return await self._dispatcher.run(permit, join, query, outcomes, top_k, Stages())

    async def _attempt(
        self, serving: Serving | NotReadyError, query: Query, permit: Permit
    ) -> Scores | Exception:
        if isinstance(serving, NotReadyError):
            return serving
        known = query.known_to(serving.artifact.vocabulary)
        query = replace(known, model=serving.generation.model)
        try:
            return await self._score(serving, query, permit)
        except Exception as error:  # ONNX Runtime's errors have no base class of their own
            return error

    def _report_failures(self, outcomes: Mapping[str, Scores | Exception]) -> None:
        failures = {
            model: outcome for model, outcome in outcomes.items() if isinstance(outcome, Exception)
        }
        if len(failures) == len(outcomes):
            raise next(iter(failures.values()))
        for model, error in failures.items():
            self._telemetry.compare_failed(model, error)
            unexpected = None if isinstance(error, AbsorbError) else error
            fields = {"model": model, "error": str(error)}
            log.warning("model failed in a comparison", extra=fields, exc_info=unexpected)

    async def _score(self, serving: Serving, query: Query, permit: Permit) -> Scores:
        context = _context_ids(serving, query)
        stages = Stages()
        model = serving.generation.model
        found = await self._find(serving, query)
        stages.ended["cache"] = perf_counter()
        source = found.source
        try:
            run = partial(self._dispatcher.score, permit)
            origin, scored = await _score_found(serving, found, query, context, stages, run)
            source = origin.source
        except BrokenModelError:
            self._telemetry.score_failed(model)
            raise
        finally:
            # Counted also if scoring fails or is cancelled: results always add up to lookups.
            self._telemetry.looked_up(model, source)
        if origin is not found:
            self._tiers.states.drop(serving, query.user_id, found)
        seconds = stages.seconds()
        unknown_context = origin.serving.artifact.vocabulary.unknown_context(query.context)
        count = partial(
            self._telemetry.scored,
            model,
            len(scored.scores),
            len(scored.unknown_candidates),
            len(scored.new_items),
            list(scored.unknown_fields),
            list(unknown_context),
            seconds,
        )
        request = CURRENT.get()
        if request is None:
            count()
        else:  # after the answer is sent
            request.later.append(count)
        generation = origin.serving.generation
        return Scores(query, generation, origin, *scored, unknown_context, seconds)

    async def rehearse(self, serving: Serving, query: Query, threads: Executor) -> Scores:
        """Score without limits, counters and the host tier, in the caller's threads: for shadows and warm-up.

        Raises:
            RequestError: a context or candidate field that the model does not have.
            ArtifactError: scoring does not work.
        """
        context = _context_ids(serving, query)
        stages = Stages()
        found = await self._tiers.states.peek(serving, query.user_id)
        stages.ended["cache"] = perf_counter()

        async def run(scorer: Scorer, slate: Slate) -> Scored:
            loop = asyncio.get_running_loop()
            (result,) = await loop.run_in_executor(threads, scorer.score_many, [slate])
            return unless_error(result)

        origin, scored = await _score_found(serving, found, query, context, stages, run)
        used = origin.serving
        unknown_context = used.artifact.vocabulary.unknown_context(query.context)
        return Scores(query, used.generation, origin, *scored, unknown_context, stages.seconds())

    def _check_candidates(self, candidates: Sequence[str]) -> None:
        limit = self._settings.max_candidates
        if not candidates:
            raise RequestError("candidates", [], f"1 to {limit} item ids")
        if len(candidates) > limit:
            raise RequestError("candidates", len(candidates), f"1 to {limit} item ids")

    async def _find(self, serving: Serving, query: Query) -> FoundState:
        """Look up the user's state in at most half of the time that is left: the other half is for the score."""
        lookup = self._tiers.states.find(serving, query.user_id)
        if query.deadline is None:
            return await lookup
        limit_s = (query.deadline - time.monotonic()) / 2
        if limit_s >= self._settings.cache_timeout_ms / 1000:
            return await lookup
        try:
            async with asyncio.timeout(limit_s):
                return await lookup
        except TimeoutError:
            problem = "the cache gave no answer in half of the request's time"
            return cold_start(serving, "unavailable", "redis", problem)

    async def prefetch(
        self, model: str | None, user_ids: Sequence[str], deadline: float | None, priority: int
    ) -> int:
        """Read the records of users who will be scored soon, in the background.

        The hint waits for a permit as a score does, so that hints cannot crowd out scores.

        Args:
            model: as in `Query`.
            user_ids: raw ids.
            deadline: as in `Query`.
            priority: as in `Query`, but 0 means the lowest.

        Returns:
            How many users were queued. Nothing waits for the reads.

        Raises:
            OverloadedError: too many requests at once.
            DeadlineError: the deadline passed.
            UnknownModelError: no such model.
            NotReadyError: nothing is loaded yet.
        """
        async with self._admission.admit(deadline, priority or LOWEST):
            if self._traffic is None:
                serving = self._selection.pick(model)
                hints = [(serving, user_id) for user_id in user_ids]
            else:
                foresee = self._traffic.foresee
                hints = [(foresee(model, user_id), user_id) for user_id in user_ids]
            return self._tiers.prefetcher.accept(hints)

    async def look_up(self, user_id: str, model: str | None) -> StoredUser:
        """Read what the cache holds for a user.

        Raises:
            UnknownUserError: it holds nothing.
            UnknownModelError: no such model.
            NotReadyError: nothing is loaded yet.
            CacheUnavailableError: the cache does not answer.
        """
        serving = self._selection.pick(model)
        generation = serving.generation
        try:
            raw = await self._tiers.store.read(generation.key(user_id))
        except CorruptRecordError as error:
            return StoredUser(user_id, serving, 0, None, str(error))
        if raw is None:
            raise UnknownUserError(user_id, generation.model, generation.name)
        maker = serving.maker_of(raw)
        try:
            record = read_record(raw, maker, user_id)
        except RecordError as error:
            return StoredUser(user_id, maker, len(raw), None, str(error))
        return StoredUser(user_id, maker, len(raw), record, None)

    async def close(self) -> None:
        """Cancel the shadow requests that run."""
        await self._shadows.close()

    async def probe(self) -> None:
        """Score once without the cache: a service whose cache is down still scores.

        Raises:
            NotReadyError: nothing serves, or the default model does not yet.
            ArtifactError: scoring does not work.
        """
        await self._dispatcher.run_unlimited(self._selection.pick_to_probe().scorer.probe)


def _context_ids(serving: Serving, query: Query) -> Ids:
    """Ids of the context fields, once the names of all fields are known to be the model's.

    Raises:
        RequestError: a context or candidate field that the model does not have.
    """
    vocabulary = serving.artifact.vocabulary
    check_candidate_fields(query.candidate_fields, vocabulary.candidate)
    return vocabulary.context_ids(query.context)


async def _score_found(
    picked: Serving, found: FoundState, query: Query, context: Ids, stages: Stages, run: Run
) -> tuple[FoundState, Scored]:
    """Score a query; from the cold-start state if the user's record gives no score.

    Args:
        picked: generation that was picked for the request.
        found: the user's state.
        query: the request's query.
        context: ids of the context fields, as the artifact of `picked` has them.
        stages: the scorer notes its stages here.
        run: runs the scorer on the slate.

    Returns:
        The state that the scores are from, which is `found` unless its record gives no score, and the scores.

    Raises:
        BrokenModelError: the cold-start state gives no score.
        Exception: what else `run` raises.
    """
    try:
        return found, await run(found.serving.scorer, _slate(picked, found, query, context, stages))
    except ScoreError as error:
        cold = state_after(error, picked, found)
    return await _score_found(picked, cold, query, context, stages, run)


def _slate(picked: Serving, found: FoundState, query: Query, context: Ids, stages: Stages) -> Slate:
    """What the scorer of `found.serving` scores.

    During a rolling publish a record may be of an older artifact than `picked`, with other fields.
    """
    if found.serving is not picked:
        older = found.serving.artifact.vocabulary
        query = query.known_to(older)
        context = older.context_ids(query.context)
    return Slate(
        found.state,
        query.recent,
        found.recent,
        context,
        query.candidates,
        query.candidate_fields,
        stages.ended,
    )
