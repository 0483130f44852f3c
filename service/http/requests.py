"""Requests' bodies, as pydantic checks and documents them: what is wrong with one is said in words."""

from collections import Counter
from typing import Annotated, TypeGuard, TypeVar, cast

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

from models.contract.errors import RequestError, did_you_mean, shown
from models.contract.vocabulary import MAX_ID_LENGTH, check_id

MAX_SHOWN = 80
"""Characters of a bad value that an error repeats."""
MAX_PREFETCH = 1000
"""Users of one hint."""
MAX_PROBLEMS = 100
"""Of a body: with more, not even the first is looked for, since pydantic only tells all of them."""
ID_SCHEMA = {"anyOf": [{"type": "string", "minLength": 1, "maxLength": 128}, {"type": "integer"}]}


class _Words(str):
    """Shown in an error as it is, without quotes."""

    __repr__ = str.__str__


def _short(value: object) -> object:
    text = shown(value)
    return value if len(text) <= MAX_SHOWN else _Words(f"{text[:MAX_SHOWN]}…")


def _id(field: str, value: object) -> str:
    if type(value) is str:
        return check_id(field, value)
    if type(value) is int:
        return check_id(field, str(value))
    raise RequestError(field, _short(value), "a string or an integer")


def _user_id(value: object) -> str:
    return _id("user_id", value)


def _are_ids(values: list[object]) -> TypeGuard[list[str]]:
    """Whether all are strings that `check_id` lets pass, found without a Python loop: slates are long."""
    if not values or set(map(type, values)) != {str}:
        return False
    strings = cast(list[str], values)
    sizes = set(map(len, strings))
    return min(sizes) > 0 and max(sizes) <= MAX_ID_LENGTH and "".join(strings).isprintable()


def _users_to_prefetch(value: object) -> list[str]:
    expected = f"a list of 1 to {MAX_PREFETCH} user ids"
    if not isinstance(value, list):
        raise RequestError("user_ids", _short(value), expected)
    if not 0 < len(value) <= MAX_PREFETCH:
        raise RequestError("user_ids", _Words(f"{len(value)} of them"), expected)
    return [_id(f"user_ids[{at}]", one) for at, one in enumerate(value)]


def _item_ids(field: str) -> PlainValidator:
    def check(value: object) -> list[str]:
        if not isinstance(value, list):
            raise RequestError(field, _short(value), "a list of item ids")
        if _are_ids(value):
            return value
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
USERS_SCHEMA = WithJsonSchema(
    {"type": "array", "items": ID_SCHEMA, "minItems": 1, "maxItems": MAX_PREFETCH}
)
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


class PrefetchRequest(BaseModel):
    """Users who will soon be scored."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        json_schema_extra={"examples": [{"user_ids": ["42", 43]}]},
    )

    user_ids: Annotated[list[str], PlainValidator(_users_to_prefetch), USERS_SCHEMA]
    """Raw ids; those that the cache does not hold are no error."""

    model: StrictStr | None = None
    """A published model, or an experiment; absent: what scores that name none get."""


Asked = TypeVar("Asked", bound=BaseModel)


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
    if error.error_count() > MAX_PROBLEMS:
        wrong = _Words(f"{error.error_count()} wrong fields or values")
        return RequestError("body", wrong, f"only the fields {', '.join(known)}")
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
