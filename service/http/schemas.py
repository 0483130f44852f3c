"""Answers' bodies, as pydantic documents them; `answers.py` makes them."""

from typing import Any, Literal

from service.transport.schemas import Answer


class StateInfo(Answer):
    """How the user's state was found."""

    source: Literal["hit", "miss", "stale", "corrupt", "unavailable"]
    """hit, stale: the user's record; the others: the cold-start state."""

    tier: Literal["host", "redis"]
    """That knew: the service's own memory, or the cache."""

    as_of_s: int | None
    """Epoch second up to which events are in it; null for the cold-start state."""


class RankedItem(Answer):
    """One candidate and its score."""

    item: str
    score: float


class ScoreResponse(Answer):
    """Scores, and where they come from."""

    model: str
    """Name of the model."""

    generation: str
    """The published build that scored."""

    artifact_id: str
    """Content hash of the trained model that scored."""

    user_id: str
    """As asked."""

    state: StateInfo
    """How the user's state was found."""

    degraded: bool
    """True if the score is worth less than it could be."""

    degraded_reason: str | None
    """Why it is degraded."""

    scores: list[float] | None
    """Click probability of each candidate, in the order of the request; null with top_k."""

    ranked: list[RankedItem] | None
    """With top_k: the best candidates, best first, ties in the order of the request; else null."""

    unknown_candidates: list[str]
    """Candidates that the model's catalogue does not hold."""

    timings_ms: dict[str, float]
    """Stage -> milliseconds: cache, queue (for a thread), decode, score, total."""


class RankedCandidate(RankedItem):
    """One candidate, its score and its rank."""

    rank: int
    """1 + the number of candidates that score more: those that tie share a rank."""


class ComparedModel(Answer):
    """What one model says: as POST /v1/score would, or why it cannot. With an `error`, all but `model` is null."""

    model: str
    """Name of the model."""

    generation: str | None
    """The published build that scored."""

    artifact_id: str | None
    """Content hash of the trained model that scored."""

    state: StateInfo | None
    """How the user's state was found, for this model."""

    degraded: bool | None
    """True if the scores are worth less than they could be."""

    degraded_reason: str | None
    """Why they are degraded."""

    scores: list[float] | None
    """Click probability of each candidate, in the order of the request; null with top_k."""

    ranked: list[RankedCandidate] | None
    """The best candidates, best first, ties in the order of the request."""

    unknown_candidates: list[str] | None
    """Candidates that the model's catalogue does not hold."""

    ignored_context: list[str] | None
    """Fields of the request's context that the model does not have; another one of those compared does."""

    timings_ms: dict[str, float] | None
    """Stage -> milliseconds, as in POST /v1/score."""

    error: str | None
    """Why the model gives no scores, as POST /v1/score would say it; null if it does."""


class PairAgreement(Answer):
    """How far two models' rankings agree."""

    models: tuple[str, str]
    """Their names."""

    kendall_tau: float | None
    """Kendall's tau-b over all candidates: 1 the same order, -1 reversed; null where one of them ranks all alike."""

    overlap: float
    """Share of common candidates among the best `top_k`, as they are ranked."""


class CompareResponse(Answer):
    """Rankings of the same candidates by several models, and how far they agree."""

    user_id: str
    """As asked."""

    top_k: int
    """Candidates of each `ranked` and of `overlap`: as asked, or 10, and at most as many as there are."""

    models: list[ComparedModel]
    """One entry each, in the order asked, else by name."""

    agreement: list[PairAgreement]
    """One entry for each pair of models that gave scores."""

    timings_ms: dict[str, float]
    """Stage -> milliseconds: those of the models added up, which score one after another, agreement, total."""


class TensorInfo(Answer):
    """One tensor of a state."""

    name: str
    shape: list[int]


class ModelInfo(Answer):
    """One model that is served."""

    name: str
    default: bool
    """Scores requests that name no model."""

    generation: str
    artifact_id: str
    num_users: int
    as_of_s: int
    """Epoch second up to which events are in the states."""

    created_s: int
    """Epoch second of the publish."""

    record_dtype: str
    record_bytes: int
    """Bytes of a user's record, less its id."""

    state: list[TensorInfo]
    provider: str
    """ONNX Runtime provider that runs the graphs."""

    history_length: int
    recent_length: int
    num_items: int
    item_fields: list[str]
    user_fields: list[str]
    context_fields: list[str]
    """Names that a request's `context` may have."""

    report: dict[str, Any]
    """Metrics on the test period, as the builder found them."""


class ModelList(Answer):
    """What GET /v1/models answers."""

    models: list[ModelInfo]


class StoredTensor(TensorInfo):
    """One tensor of a user's state."""

    norm: float
    """Euclidean norm of all its values."""


class UserResponse(Answer):
    """What the cache holds for a user."""

    user_id: str
    model: str
    generation: str
    artifact_id: str
    num_bytes: int
    as_of_s: int | None
    recent: list[str | None]
    """Ids of the latest items, newest last; null: an item that the catalogue does not hold."""

    tensors: list[StoredTensor]
    problem: str | None
    """Why the record cannot be used; null if it can."""


class PrefetchResponse(Answer):
    """What becomes of a hint. Accepted is not read: a score that comes first reads for itself."""

    accepted: int
    """Users that are queued."""

    dropped: int
    """Users for whom the queue had no room, or all, where the host tier is off."""


class HostInfo(Answer):
    """How full the host tier is."""

    limit_bytes: int
    """0: it is off."""

    num_bytes: int
    users: int
    absent_users: int
    """Users of whom it knows that the cache does not hold them."""

    evictions: int
    """Entries that made room for others."""


class TierResults(Answer):
    """Lookups of users in one tier, to score them."""

    tier: Literal["host", "redis"]
    lookups: int
    """The sum of the results, always."""

    results: dict[Literal["hit", "miss", "stale", "corrupt", "error"], int]


class PrefetchInfo(Answer):
    """What became of the users in hints; `hinted` is the sum of the others."""

    hinted: int
    waiting: int
    """Queued, or being read."""

    loaded: int
    present: int
    """In the host tier already, or named twice at once."""

    absent: int
    failed: int
    """Corrupt, or the cache did not answer."""

    dropped: int


class CachedGeneration(Answer):
    """What is kept of a generation that serves, and how its lookups ended."""

    model: str
    generation: str
    users: int
    absent_users: int
    num_bytes: int
    tiers: list[TierResults]


class CacheResponse(Answer):
    """The cache's tiers, as this process sees them, since it started."""

    host: HostInfo
    tiers: list[TierResults]
    joined_reads: int
    """Requests that waited for another's read of the same user."""

    prefetch: PrefetchInfo
    generations: list[CachedGeneration]
