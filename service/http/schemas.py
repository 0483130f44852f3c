"""Response bodies of /v1, as OpenAPI documents them; `answers.py` makes them."""

from typing import Any, Literal

from service.transport.schemas import Answer


class StateInfo(Answer):
    """How the user's state was found."""

    source: Literal["hit", "miss", "stale", "corrupt", "unavailable"]
    """hit, stale: scored from the user's record; others: from the cold-start state."""

    tier: Literal["device", "host", "redis"]
    """Where the lookup ended: the memory of the GPU (device), that of the process (host), or the cache (redis)."""

    as_of_s: int | None
    """Epoch second up to which events are in it; null for the cold-start state."""


class FreshnessInfo(Answer):
    """How far states are behind the events that were accepted (`POST /v1/events`)."""

    lag_s: float
    """Seconds from the arrival of an event until its states were written, lately."""

    waiting_events: int | None
    """Accepted events that are in no state yet; null: the workers' source cannot tell."""

    complete: bool
    """Whether nothing was behind when a worker looked last, within the last seconds."""


class RankedItem(Answer):
    """One candidate and its score."""

    item: str
    score: float


class ScoreResponse(Answer):
    """Scores, and what they were computed from."""

    model: str
    """Name of the model."""

    generation: str
    """The published build that scored."""

    artifact_id: str
    """Content hash of the trained model that scored."""

    user_id: str
    """As in the request."""

    state: StateInfo
    """How the user's state was found."""

    freshness: FreshnessInfo | None
    """How far states are behind; null: no worker (`absorb follow`) folds events into the states of this model."""

    degraded: bool
    """Whether the scores are less accurate than they could be: `degraded_reason` says why."""

    degraded_reason: str | None
    """Why the scores are degraded; null if they are not."""

    scores: list[float] | None
    """Click probability of each candidate, in the order of the request; null with top_k."""

    ranked: list[RankedItem] | None
    """With top_k: the best candidates, best first, ties in the order of the request; else null."""

    unknown_candidates: list[str]
    """Candidates that the model's catalogue does not hold, and that are no registered new items."""

    new_items: list[str]
    """Candidates that the model's catalogue does not hold, scored by their item fields (`POST /v1/items`)."""

    unknown_candidate_fields: dict[str, list[str | None]]
    """Candidate field -> its values that are unknown or missing, each once: training has not seen them, or they are no
    numbers of a numeric field, say. null: a candidate has no value. Empty if every value is known."""

    unknown_context: dict[str, list[str | None]]
    """Context field -> its value, for each field whose value is unknown or missing: training has not seen it, or it is
    no number of a numeric field, say. null: the request has none. Empty if every value is known."""

    timings_ms: dict[str, float]
    """Stage -> milliseconds: cache, queue (waiting for a thread), decode, score, total."""


class RankedCandidate(RankedItem):
    """One candidate, its score and its rank."""

    rank: int
    """1 + the number of candidates with a higher score; ties share a rank."""


class ComparedModel(Answer):
    """The answer of one model, as from POST /v1/score. If it failed: only `model` and `error`, all else is null."""

    model: str
    """Name of the model."""

    generation: str | None
    """The published build that scored."""

    artifact_id: str | None
    """Content hash of the trained model that scored."""

    state: StateInfo | None
    """How the user's state was found, for this model."""

    degraded: bool | None
    """Whether the scores are less accurate than they could be."""

    degraded_reason: str | None
    """Why the scores are degraded; null if they are not."""

    scores: list[float] | None
    """Click probability of each candidate, in the order of the request; null with top_k."""

    ranked: list[RankedCandidate] | None
    """The best candidates, best first, ties in the order of the request."""

    unknown_candidates: list[str] | None
    """Candidates that the model's catalogue does not hold, and that are no registered new items."""

    new_items: list[str] | None
    """Candidates that this model scored by their item fields (`POST /v1/items`)."""

    unknown_candidate_fields: dict[str, list[str | None]] | None
    """Candidate field -> its values that were scored as the field's unknown value, as in POST /v1/score."""

    unknown_context: dict[str, list[str | None]] | None
    """Context field of this model -> its value that was scored as unknown, as in POST /v1/score."""

    ignored_candidate_fields: list[str] | None
    """Candidate fields of the request that this model does not have; another of the compared models has them."""

    ignored_context: list[str] | None
    """Context fields of the request that this model does not have; another of the compared models has them."""

    timings_ms: dict[str, float] | None
    """Stage -> milliseconds, as in POST /v1/score."""

    error: str | None
    """Why the model gives no scores, with the text of POST /v1/score; null if it gives scores."""


class PairAgreement(Answer):
    """How far two models' rankings agree."""

    models: tuple[str, str]
    """Their names."""

    kendall_tau: float | None
    """Kendall's tau-b over all candidates: 1 same order, -1 reversed; null if all scores of one model tie."""

    overlap: float
    """Expected share of the best `top_k` candidates that both rankings have in common, if ties are broken at random:
    models that score all candidates alike agree by chance alone."""


class CompareResponse(Answer):
    """Rankings of the same candidates by several models, and how far they agree."""

    user_id: str
    """As in the request."""

    top_k: int
    """Number of candidates in each `ranked` and for `overlap`: as in the request or 10, and at most all."""

    models: list[ComparedModel]
    """One entry for each model, in the order of the request; by name if the request has none."""

    agreement: list[PairAgreement]
    """One entry for each pair of models that gave scores."""

    timings_ms: dict[str, float]
    """Stage -> milliseconds: sums over the models, which score one after another; agreement; total."""


class TensorInfo(Answer):
    """One tensor of a state."""

    name: str
    shape: list[int]


class EngineInfo(Answer):
    """The engine that scores a model: ABSORB_ENGINE chooses it."""

    name: str
    """onnxruntime, native, cuda or torch."""

    device: str
    """cpu, or the accelerator, for example cuda:0."""

    reason: str
    """Why it was chosen: named by the setting; the fastest that fits; the only one; or, for onnxruntime, which engine
    was refused, and why in few words."""

    refused: dict[str, str]
    """Engine -> why it does not score this model."""


class ModelInfo(Answer):
    """One model that is served."""

    name: str
    default: bool
    """Whether this model scores requests that name none."""

    generation: str
    artifact_id: str
    num_users: int
    as_of_s: int
    """Epoch second up to which events are in the states."""

    created_s: int
    """Epoch second of the publish."""

    record_dtype: str
    record_bytes: int
    """Bytes of the largest record, without the user id. Records leave out rows that a user does not fill."""

    state: list[TensorInfo]
    engine: EngineInfo

    calibration: Literal["none", "temperature", "isotonic"]
    """How the graph's logits become the log odds of the scores: as they are, by a scale and a shift, or by an isotonic
    map. The builder fits it on validation and keeps it only where it helps."""

    history_length: int
    recent_length: int
    num_items: int
    """Items of the catalogue, and the two reserved rows."""

    num_prototypes: int
    """Rows behind the items, for new items; 0 in older artifacts, and for items without fields."""

    item_fields: list[str]
    user_fields: list[str]
    context_fields: list[str]
    """Names that a request's `context` may have."""

    candidate_fields: list[str]
    """Names that the `fields` of a request's candidates may have."""

    report: dict[str, Any]
    """Metrics on the test period, as the builder measured them."""


class ModelList(Answer):
    """Response of GET /v1/models."""

    models: list[ModelInfo]
    default: str | None
    """Model that scores requests that name none; it need not serve now. Null while there is none."""


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
    """Ids of the latest items, newest last; null: an item that is not in the catalogue."""

    tensors: list[StoredTensor]
    problem: str | None
    """Why the record cannot be used; null if it can."""


class PrefetchResponse(Answer):
    """How many users were queued. A score that comes before its user's read reads the record itself."""

    accepted: int
    """Users that were queued."""

    dropped: int
    """Users that were not: the queue was full, or the host tier is off."""


class EventsResponse(Answer):
    """What became of the events of a request."""

    accepted: int
    """Events that are in their users' logs now, those included that were there before."""

    duplicates: int
    """Events that were there before, by their ids: they count once."""

    position: str
    """Position of the last one in the stream of events."""


class HostInfo(Answer):
    """How full the host tier is."""

    limit_bytes: int
    """0: the host tier is off."""

    num_bytes: int
    users: int
    absent_users: int
    """Users that are known not to be in the cache."""

    evictions: int
    """Entries that were removed to make room for others."""


class DeviceInfo(Answer):
    """How full the device tier is."""

    limit_bytes: int
    """0: the device tier is off."""

    num_bytes: int
    """Size of the slots that hold a user's state."""

    users: int
    evictions: int
    """States that were removed to make room for others."""

    waiting: int
    """States that are being copied to the device, or wait for it."""

    copies: dict[Literal["copied", "dropped", "failed", "outdated"], int]
    """How copies ended: used; too many were waiting; failed; replaced by a newer record or generation meanwhile."""


class TierResults(Answer):
    """Lookups of users to be scored, in one tier."""

    tier: Literal["device", "host", "redis"]
    lookups: int
    """Always the sum of `results`."""

    results: dict[Literal["hit", "miss", "stale", "corrupt", "error"], int]


class PrefetchInfo(Answer):
    """Results of the prefetch requests, in users; `hinted` is the sum of the others."""

    hinted: int
    waiting: int
    """Queued or being read."""

    loaded: int
    present: int
    """In the host tier already, or named twice."""

    absent: int
    failed: int
    """The record is corrupt, or the cache did not answer."""

    dropped: int


class CachedGeneration(Answer):
    """What the host tier holds of a generation that serves, and how its lookups ended."""

    model: str
    generation: str
    users: int
    absent_users: int
    num_bytes: int
    tiers: list[TierResults]


class CacheResponse(Answer):
    """The cache tiers of this process, and their counts since it started."""

    device: DeviceInfo
    host: HostInfo
    tiers: list[TierResults]
    joined_reads: int
    """Requests that waited for another request's read of the same user."""

    prefetch: PrefetchInfo
    generations: list[CachedGeneration]
