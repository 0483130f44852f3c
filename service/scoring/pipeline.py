"""Request -> state -> scores. The one place that decides about fallbacks.

| the cache                                    | source      | scored from      | degraded |
|----------------------------------------------|-------------|------------------|----------|
| holds a record of this artifact and user     | hit         | the record       | no       |
| the same, older than `stale_after_s`         | stale       | the record       | yes      |
| holds nothing for the user                   | miss        | cold-start state | yes      |
| holds bytes that are no record of this user  | corrupt     | cold-start state | yes      |
| gives no answer in `cache_timeout_ms`        | unavailable | cold-start state | yes      |

A comparison is one score after another, each as above. A model that fails has its error in its place, and the others
answer; where all fail, the first error is the request's.
"""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from models.contract.errors import AbsorbError, CorruptRecordError, RecordError, RequestError
from models.contract.record import Generation, UserRecord
from service.errors import NotReadyError, UnknownUserError
from service.experiments.shadow import Shadows
from service.experiments.split import Traffic
from service.generations.selection import Selection
from service.generations.serving import Serving
from service.observability.metrics import Stages, StateSource, Telemetry
from service.observability.request_context import CURRENT
from service.runtime.scorer import State
from service.scoring.admission import Place
from service.scoring.comparison import Comparison, check_context, join
from service.scoring.compute import Job, compute, unless_error
from service.scoring.gate import Gate
from service.settings import Settings
from service.state.build import Tiers
from service.state.cached_user import read_record
from service.state.counters import Result, Tier
from service.state.lookup import Found

DEFAULT_TOP_K = 10
"""Candidates of a comparison's rankings, if the request does not say."""

log = logging.getLogger(__name__)

SOURCES: dict[Result, StateSource] = {
    "hit": "hit",
    "miss": "miss",
    "stale": "stale",
    "corrupt": "corrupt",
    "error": "unavailable",
}


@dataclass(frozen=True)
class Query:
    """What is asked: score `candidates` for a user.

    Attributes:
        user_id: raw id.
        candidates: raw item ids.
        model: None asks for the default one.
        recent: raw ids of the latest items, newest last; None takes those in the user's record.
        context: context field -> raw value.
        deadline: moment of `time.monotonic()` at which nobody waits any more; None: there is none.
        priority: 1 is the highest, 5 the lowest; 0 is the usual one, 3.
    """

    user_id: str
    candidates: Sequence[str]
    model: str | None
    recent: Sequence[str] | None
    context: Mapping[str, object]
    deadline: float | None = None
    priority: int = 0


@dataclass(frozen=True)
class FoundState:
    """A state to score from, and how it was found.

    Attributes:
        serving: what may score the state.
        tier: that knew the answer.
        as_of_s: epoch second up to which events are in it; None for the cold-start state.
        reason: why the answer is degraded; None if it is not.
    """

    serving: Serving
    source: StateSource
    tier: Tier
    state: State
    recent: NDArray[np.int64]
    as_of_s: int | None
    reason: str | None


@dataclass(frozen=True)
class Scores:
    """An answer: probabilities in the order of the candidates, and where they come from."""

    query: Query
    generation: Generation
    found: FoundState
    scores: NDArray[np.float64]
    unknown_candidates: list[str]
    stages: Stages


@dataclass(frozen=True)
class StoredUser:
    """What the cache holds for a user; `record` is None where `problem` says why it cannot be read."""

    user_id: str
    serving: Serving
    num_bytes: int
    record: UserRecord | None
    problem: str | None


class Pipeline:
    """Answers queries. Parts are handed in; nothing here blocks the event loop."""

    def __init__(
        self,
        settings: Settings,
        selection: Selection,
        tiers: Tiers,
        telemetry: Telemetry,
        gate: Gate,
        traffic: Traffic,
        shadows: Shadows,
    ) -> None:
        """Keep the parts.

        Args:
            settings: the limits are read from here.
            selection: what serves now.
            tiers: where users are found.
            telemetry: counts.
            gate: the way to the threads that score.
            traffic: picks the model of a request.
            shadows: score a share of what was answered, once more.
        """
        self._settings = settings
        self._selection = selection
        self._tiers = tiers
        self._telemetry = telemetry
        self._gate = gate
        self._traffic = traffic
        self._shadows = shadows

    async def score(self, query: Query) -> Scores:
        """Score the candidates.

        Raises:
            OverloadedError: too many requests at once.
            DeadlineError: the query's time is over.
            RequestError: no candidates, too many, or a context field that the model does not have.
            UnknownModelError: no such model.
            NotReadyError: nothing is loaded yet.
        """
        about = CURRENT.get()
        if about is not None:
            about.ask(query.user_id)
        self._check_candidates(query.candidates)
        return await self._gate.admit(
            query.deadline, query.priority, lambda place: self._score_picked(query, place)
        )

    async def _score_picked(self, query: Query, place: Place) -> Scores:
        # Picked in the place, not before: a new generation may begin to serve while this waits for one.
        serving = self._traffic.pick(query.model, query.user_id)
        about = CURRENT.get()
        if about is not None:
            about.model = serving.generation.model
        answer = await self._score(serving, query, place)
        if about is not None:
            found = answer.found
            is_degraded, stages = found.reason is not None, answer.stages.seconds
            about.answer(answer.generation.name, found.source, is_degraded, stages)
        self._shadows.offer(answer, self.rehearse)
        return answer

    async def compare(
        self, query: Query, models: Sequence[str] | None, top_k: int | None
    ) -> Comparison:
        """Score the candidates with each of `models`; None takes all that serve.

        Raises:
            OverloadedError: too many requests at once.
            DeadlineError: the query's time is over.
            RequestError: no candidates, too many, or a context field that none of the models has.
            UnknownModelError: no such model.
            NotReadyError: none of the models is loaded yet.
            ArtifactError: none of the models can score.
        """
        self._check_candidates(query.candidates)
        shown = min(top_k or DEFAULT_TOP_K, len(query.candidates))
        return await self._gate.admit(
            query.deadline,
            query.priority,
            lambda place: self._compare(query, models, shown, place),
        )

    async def _compare(
        self, query: Query, models: Sequence[str] | None, top_k: int, place: Place
    ) -> Comparison:
        picked = self._selection.pick_several(models)
        check_context(picked, query.context)
        # One after another: a comparison takes one place among the requests in flight, and no more than
        # one of the threads at a time.
        outcomes = {name: await self._attempt(one, query, place) for name, one in picked.items()}
        self._report_failures(outcomes)
        return await self._gate.work(place, join, query, outcomes, top_k, Stages())

    async def _attempt(
        self, serving: Serving | NotReadyError, query: Query, place: Place
    ) -> Scores | Exception:
        if isinstance(serving, NotReadyError):
            return serving
        known = serving.artifact.vocabulary.context
        context = {name: value for name, value in query.context.items() if name in known}
        name = serving.generation.model
        try:
            return await self._score(serving, replace(query, model=name, context=context), place)
        except Exception as error:  # ONNX Runtime's errors have no base class of their own
            return error

    def _report_failures(self, outcomes: Mapping[str, Scores | Exception]) -> None:
        failures = {name: one for name, one in outcomes.items() if isinstance(one, Exception)}
        if len(failures) == len(outcomes):
            raise next(iter(failures.values()))
        for name, error in failures.items():
            self._telemetry.compare_failed(name, error)
            unexpected = None if isinstance(error, AbsorbError) else error
            fields = {"model": name, "error": str(error)}
            log.warning("model failed in a comparison", extra=fields, exc_info=unexpected)

    async def _score(self, serving: Serving, query: Query, place: Place) -> Scores:
        context = serving.artifact.vocabulary.context_ids(query.context)
        stages = Stages()
        model = serving.generation.model
        found = _state_of(serving, await self._find(serving, query))
        # Here, whatever becomes of the request: a lookup counts when its result is known, and with it.
        self._telemetry.looked_up(model, found.source)
        stages.end("cache")
        job = _job(serving, found, query, context, stages)
        scores, unknown = await self._gate.score(place, job)
        about = CURRENT.get()
        count = partial(self._telemetry.scored, model, len(scores), len(unknown), stages)
        if about is None:
            count()
        else:  # nobody has to wait for that
            about.later.append(count)
        return Scores(query, found.serving.generation, found, scores, unknown, stages)

    async def rehearse(self, serving: Serving, query: Query, threads: Executor) -> Scores:
        """Score past every count, limit and tier, in threads of the caller's: for shadows and for warming up.

        Raises:
            RequestError: a context field that the model does not have.
            ArtifactError: scoring does not work.
        """
        context = serving.artifact.vocabulary.context_ids(query.context)
        stages = Stages()
        found = _state_of(serving, await self._tiers.states.peek(serving, query.user_id))
        stages.end("cache")
        job = _job(serving, found, query, context, stages)
        (result,) = await asyncio.get_running_loop().run_in_executor(threads, compute, [job])
        scores, unknown = unless_error(result)
        return Scores(query, found.serving.generation, found, scores, unknown, stages)

    def _check_candidates(self, candidates: Sequence[str]) -> None:
        limit = self._settings.max_candidates
        if not candidates:
            raise RequestError("candidates", [], f"1 to {limit} item ids")
        if len(candidates) > limit:
            raise RequestError("candidates", len(candidates), f"1 to {limit} item ids")

    async def _find(self, serving: Serving, query: Query) -> Found:
        """The user's state; the cache gets half of the time that is left, so that a score fits into the rest."""
        finding = self._tiers.states.find(serving, query.user_id)
        if query.deadline is None:
            return await finding
        limit_s = (query.deadline - time.monotonic()) / 2
        if limit_s >= self._settings.cache_timeout_ms / 1000:
            return await finding
        try:
            async with asyncio.timeout(limit_s):
                return await finding
        except TimeoutError:
            problem = "the cache gave no answer in half of the request's time"
            return Found("redis", "error", None, problem)

    def prefetch(self, model: str | None, user_ids: Sequence[str]) -> int:
        """Read users in the background who will soon be scored; says how many were let in, and waits for none.

        Raises:
            UnknownModelError: no such model.
            NotReadyError: nothing is loaded yet.
        """
        foresee = self._traffic.foresee
        return self._tiers.prefetcher.accept([(foresee(model, one), one) for one in user_ids])

    async def look_up(self, user_id: str, model: str | None) -> StoredUser:
        """What the cache holds for a user.

        Raises:
            UnknownUserError: nothing.
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
        """Give up what runs behind the answers."""
        await self._shadows.close()

    async def probe(self) -> None:
        """Score once through everything but the cache, which may be down while this service scores.

        Raises:
            NotReadyError: nothing serves, or the default model does not yet.
            ArtifactError: scoring does not work.
        """
        await self._gate.past(self._selection.pick_to_probe().scorer.probe)


def _state_of(serving: Serving, found: Found) -> FoundState:
    """The user's own state, or nobody's: the fallback."""
    source, user = SOURCES[found.result], found.user
    if user is not None:
        return FoundState(
            user.serving, source, found.tier, user.state, user.recent, user.as_of_s, found.problem
        )
    nothing = np.zeros(0, np.int64)
    reason = f"scored from the cold-start state: {found.problem}"
    cold = serving.scorer.cold_start
    return FoundState(serving, source, found.tier, cold, nothing, None, reason)


def _older_context(older: Serving, query: Query) -> NDArray[np.int64]:
    """Of a context that the newest artifact takes, what an older one knows."""
    vocabulary = older.artifact.vocabulary
    known = {name: value for name, value in query.context.items() if name in vocabulary.context}
    return vocabulary.context_ids(known)


def _job(
    picked: Serving, found: FoundState, query: Query, context: NDArray[np.int64], stages: Stages
) -> Job:
    """The query for what made the state; `context` is as what was picked takes it."""
    if found.serving is not picked:
        context = _older_context(found.serving, query)
    return Job(
        found.serving, found.state, query.recent, found.recent, context, query.candidates, stages
    )
