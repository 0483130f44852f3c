"""What travels over HTTP, as pydantic sees and documents it."""

from collections import Counter
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    StrictInt,
    StrictStr,
    ValidationError,
    WithJsonSchema,
)

from models.errors import RequestError, did_you_mean
from models.vocabulary import check_id

MAX_SHOWN = 80
"""Characters of a bad value that an error repeats."""
ID_SCHEMA = {"anyOf": [{"type": "string", "minLength": 1, "maxLength": 128}, {"type": "integer"}]}


class _Words(str):
    """Shown in an error as it is, without quotes."""

    __repr__ = str.__str__


def _short(value: object) -> object:
    shown = repr(value)
    return value if len(shown) <= MAX_SHOWN else _Words(f"{shown[:MAX_SHOWN]}…")


def _id(field: str, value: object) -> str:
    if type(value) is str:
        return check_id(field, value)
    if type(value) is int:
        return check_id(field, str(value))
    raise RequestError(field, _short(value), "a string or an integer")


def _user_id(value: object) -> str:
    return _id("user_id", value)


def _item_ids(field: str) -> PlainValidator:
    def check(value: object) -> list[str]:
        if not isinstance(value, list):
            raise RequestError(field, _short(value), "a list of item ids")
        return [_id(f"{field}[{at}]", item) for at, item in enumerate(value)]

    return PlainValidator(check)


def _model_names(value: object) -> list[str]:
    if not isinstance(value, list) or not value:
        raise RequestError("models", _short(value), "a list of at least one model's name")
    for at, name in enumerate(value):
        if type(name) is not str:
            raise RequestError(f"models[{at}]", _short(name), "a string")
    name, times = Counter(value).most_common(1)[0]
    if times > 1:
        raise RequestError("models", _short(name), f"each name once, not {times} times")
    return value


MODELS_SCHEMA = WithJsonSchema(
    {"type": "array", "items": {"type": "string"}, "minItems": 1, "uniqueItems": True}
)
ITEMS_SCHEMA = WithJsonSchema({"type": "array", "items": ID_SCHEMA})
UserId = Annotated[str, PlainValidator(_user_id), WithJsonSchema(ID_SCHEMA)]


TopK = Annotated[int, Field(strict=True, gt=0)] | None


class SlateRequest(BaseModel):
    """Base of requests about candidates for a user."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
    )

    user_id: UserId
    """The user; an unknown one is scored from the cold-start state."""

    candidates: Annotated[list[str], _item_ids("candidates"), ITEMS_SCHEMA]
    """Item ids to score; unknown ones are scored as the out-of-vocabulary item, and listed."""

    recent: Annotated[list[str], _item_ids("recent"), ITEMS_SCHEMA] | None = None
    """Item ids of the user's latest events, newest last; absent or null: those in the user's record."""

    context: dict[StrictStr, StrictStr | StrictInt] = {}
    """Context field -> value."""


class ScoreRequest(SlateRequest):
    """Score candidates for a user."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"user_id": "42", "candidates": ["7", 9], "top_k": 1}]}
    )

    model: StrictStr | None = None
    """A published model; absent: the default one."""

    top_k: TopK = None
    """Answer with this many candidates, best first, instead of every score."""


class CompareRequest(SlateRequest):
    """Rank candidates for a user with several models."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"user_id": "42", "candidates": ["7", 9], "models": ["lrea", "din"]}]
        }
    )

    models: Annotated[list[str], PlainValidator(_model_names), MODELS_SCHEMA] | None = None
    """Published models, each once; absent or null: every one that serves."""

    top_k: TopK = None
    """Rank this many candidates, and leave out the scores; absent or null: rank 10, and give every score."""


class Answer(BaseModel):
    """Base of answers: every field is always there."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class StateInfo(Answer):
    """How the user's state was found."""

    source: Literal["hit", "miss", "stale", "corrupt", "unavailable"]
    """hit, stale: the user's record; the others: the cold-start state."""

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


class ErrorBody(Answer):
    """Every answer with a status of 400 or more."""

    error: str
    """What field, what came and what was expected."""


Asked = TypeVar("Asked", bound=SlateRequest)


def parse_request(kind: type[Asked], raw: bytes) -> Asked:
    """Read a request's body.

    Raises:
        RequestError: naming the field, what came and what was expected.
    """
    try:
        return kind.model_validate_json(raw)
    except ValidationError as error:
        raise _in_words(error, list(kind.model_fields)) from error


def _in_words(error: ValidationError, known: list[str]) -> RequestError:
    first = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"]) or "body"
    match first["type"]:
        case "missing":
            return RequestError(field, _Words("nothing"), "a value: this field is required")
        case "extra_forbidden":
            hint = did_you_mean(field, known)
            return RequestError("body", field, f"only the fields {', '.join(known)}{hint}")
        case "json_invalid":
            return RequestError("body", _short(first["input"]), f"JSON ({first['ctx']['error']})")
        case _:
            expected = first["msg"].removeprefix("Input should be ")
            return RequestError(field, _short(first["input"]), expected)
