"""The types of one request on its way through the service: the query, the state it is scored from, the answer."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.contract.generation import Generation
from models.contract.record import UserRecord
from models.contract.vocabulary import Vocabulary
from service.generations.serving import Serving
from service.observability.metrics import StateSource
from service.runtime.engines.engine import State
from service.runtime.scorer import CandidateFields, UnknownFields

Tier = Literal["device", "host", "redis"]
"""Where a state was looked up: the memory of the GPU, the memory of this process, or the cache."""


@dataclass(frozen=True)
class Query:
    """Score `candidates` for a user.

    Attributes:
        user_id: raw id.
        candidates: raw item ids.
        model: name of a published model or of an experiment; None: the default model.
        recent: raw ids of the latest items, newest last; None: those in the user's record.
        context: context field -> raw value.
        candidate_fields: candidate field -> raw value of each candidate, None where it has none.
        deadline: moment of `time.monotonic()` at which the client stops waiting; None: it waits without limit.
        priority: 1 is the highest, 5 the lowest; 0 means the usual one, 3.
    """

    user_id: str
    candidates: Sequence[str]
    model: str | None
    recent: Sequence[str] | None
    context: Mapping[str, object]
    candidate_fields: CandidateFields = field(default_factory=dict)
    deadline: float | None = None
    priority: int = 0

    def known_to(self, vocabulary: Vocabulary) -> "Query":
        """The query without the context and candidate fields that a model does not have: it was made for another."""
        return replace(
            self,
            context=vocabulary.known_context(self.context),
            candidate_fields=vocabulary.known_candidate_fields(self.candidate_fields),
        )


@dataclass(frozen=True, slots=True)
class FoundState:
    """The state that a query is scored from, and how it was found.

    Attributes:
        serving: generation whose artifact made the state; only its scorer may score it.
        source: result of the lookup. With `hit` and `stale` the state is the user's own, else the cold-start state.
        tier: where the lookup ended.
        state: tensor name -> array, without the batch axis.
        recent: catalogue rows of the user's latest items, newest last; empty for the cold-start state.
        as_of_s: epoch second up to which events are in the state; None for the cold-start state.
        reason: why the answer is degraded; None if it is not.
    """

    serving: Serving
    source: StateSource
    tier: Tier
    state: State
    recent: NDArray[np.int64]
    as_of_s: int | None
    reason: str | None


def cold_start(serving: Serving, source: StateSource, tier: Tier, problem: str) -> FoundState:
    """Make the state of a user of whom nothing can be read.

    Args:
        serving: what scores the query.
        source: result of the lookup: `miss`, `corrupt` or `unavailable`.
        tier: where the lookup ended.
        problem: why there is no record.
    """
    no_items = np.zeros(0, np.int64)
    reason = f"scored from the cold-start state: {problem}"
    return FoundState(serving, source, tier, serving.scorer.cold_start, no_items, None, reason)


@dataclass(slots=True)
class Stages:
    """When the stages of one request ended: each begins when the one before it ends.

    Attributes:
        began: moment of `perf_counter()` at which the first stage began.
        ended: stage -> moment at which it ended, in order. The code that ends a stage adds it.
    """

    began: float = field(default_factory=perf_counter)
    ended: dict[str, float] = field(default_factory=dict)

    def seconds(self) -> dict[str, float]:
        """Stage -> seconds that it took, in order."""
        took_s: dict[str, float] = {}
        before = self.began
        for stage, end in self.ended.items():
            took_s[stage] = end - before
            before = end
        return took_s


def sum_of(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Add up, stage by stage, the seconds that each took in `parts`."""
    total: dict[str, float] = {}
    for part in parts:
        for stage, took_s in part.items():
            total[stage] = total.get(stage, 0.0) + took_s
    return total


def timings_ms(seconds: Mapping[str, float]) -> dict[str, float]:
    """Stage -> milliseconds, and their sum as `total`."""
    # Not round(): it prints and reads each number, which takes ten times as long.
    timings = {stage: int(1e6 * took_s + 0.5) / 1000 for stage, took_s in seconds.items()}
    timings["total"] = int(1e6 * sum(seconds.values()) + 0.5) / 1000
    return timings


@dataclass(frozen=True)
class Scores:
    """The answer to a query.

    Attributes:
        query: the request's query.
        generation: the published build that scored.
        found: the state it was scored from.
        scores: click probability of each candidate, in the order of the query.
        unknown_candidates: raw ids of candidates that the catalogue does not hold, and that are no new items.
        new_items: raw ids of candidates that are scored by their item fields alone.
        unknown_fields: candidate field -> its values that are scored as the unknown value, each once.
        unknown_context: context field -> its value, for fields that are scored as the unknown value.
        stages: stage -> seconds it took: cache, queue (waiting for a thread), decode (ids to rows), score.
    """

    query: Query
    generation: Generation
    found: FoundState
    scores: NDArray[np.float64]
    unknown_candidates: list[str]
    new_items: list[str]
    unknown_fields: UnknownFields
    unknown_context: UnknownFields
    stages: Mapping[str, float]


@dataclass(frozen=True)
class StoredUser:
    """What the cache holds for a user.

    Attributes:
        user_id: raw id.
        serving: generation whose artifact made the record.
        num_bytes: length of the stored value.
        record: None if the value cannot be read.
        problem: why it cannot be read; None if it can.
    """

    user_id: str
    serving: Serving
    num_bytes: int
    record: UserRecord | None
    problem: str | None
