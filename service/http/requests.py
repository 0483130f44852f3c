"""Request bodies: checked and documented by pydantic, with this service's own error texts."""

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

from fastapi import Request, Response
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    StrictBool,
    StrictInt,
    StrictStr,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
)

from models.contract.errors import RequestError, Unquoted, did_you_mean
from models.contract.vocabulary import check_id
from service.http.candidates import (
    CANDIDATES_SCHEMA,
    CHECK_CANDIDATES,
    ID_SCHEMA,
    Candidates,
    are_texts,
    read_id,
    require_list,
    short,
)
from service.settings import Settings
from service.transport.body import BodyLimit, receive_body
from service.transport.deadline import read_deadline_and_priority
from service.transport.disconnect import CancelledOnDisconnect
from service.transport.exchange import KEY, NONE
from service.transport.headers import KEPT, Headers
from service.transport.limits import LARGE_BYTES, MAX_CONTEXT_FIELDS, SlateLimits, bound_of
from service.transport.parser_thread import ParserThread

MAX_PREFETCH = 1000
"""Users of one prefetch request."""
MAX_MODELS = 64
"""Models of one comparison, which scores with each of them."""
MAX_PROBLEMS = 100
"""Wrong values of a body above which the error only counts them: pydantic lists either all of them or none."""


def _user_id(value: object) -> str:
    return check_id("user_id", value) if type(value) is str else read_id("user_id", value)


def _users_to_prefetch(value: object) -> list[str]:
    expected = f"a list of 1 to {MAX_PREFETCH} user ids"
    users = require_list("user_ids", value, MAX_PREFETCH, expected)
    return [read_id(f"user_ids[{at}]", user_id) for at, user_id in enumerate(users)]


def _recent(value: object, info: ValidationInfo) -> list[str]:
    if not isinstance(value, list):
        raise RequestError("recent", short(value), "a list of item ids")
    limits: SlateLimits | None = info.context
    if limits is not None and len(value) > limits.recent:
        raise RequestError("recent", len(value), f"at most {limits.recent} item ids")
    if are_texts(value):
        return value
    return [read_id(f"recent[{at}]", item) for at, item in enumerate(value)]


def _model_names(value: object) -> list[str]:
    if not isinstance(value, list) or not value:
        raise RequestError("models", short(value), "a list of at least one model's name")
    if len(value) > MAX_MODELS:
        raise RequestError("models", len(value), f"at most {MAX_MODELS} names")
    for at, name in enumerate(value):
        if type(name) is not str:
            raise RequestError(f"models[{at}]", short(name), "a string")
    name, times = Counter(value).most_common(1)[0]
    if times > 1:
        raise RequestError("models", short(name), f"each name once, not {times} times")
    return value


MODELS_SCHEMA = WithJsonSchema(
    {
        "type": "array",
        "items": {"type": "string"},
        "minItems": 1,
        "maxItems": MAX_MODELS,
        "uniqueItems": True,
    }
)
ITEMS_SCHEMA = WithJsonSchema({"type": "array", "items": ID_SCHEMA})
USERS_SCHEMA = WithJsonSchema(
    {"type": "array", "items": ID_SCHEMA, "minItems": 1, "maxItems": MAX_PREFETCH}
)
UserId = Annotated[str, PlainValidator(_user_id), WithJsonSchema(ID_SCHEMA)]

FiniteNumber = Annotated[float, Field(strict=True, allow_inf_nan=False)]
TopK = Annotated[int, Field(strict=True, gt=0)] | None


class SlateRequest(BaseModel):
    """Base class of requests about candidates for a user."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
    )

    user_id: UserId
    """The user; an unknown one is scored from the cold-start state."""

    candidates: Annotated[Candidates, CHECK_CANDIDATES, CANDIDATES_SCHEMA]
    """What to score: item ids, or objects with an id and the candidate's fields; a list may hold both.

    An unknown item is scored as the out-of-vocabulary item, and listed in the answer; a registered new item by its item
    fields (`POST /v1/items`). A value of a candidate field is unknown if training has not seen it, or if the candidate
    has none; it is scored as the field's unknown value, and listed in the answer. Numbers,
    truth values and dates may be texts. A field that the model does not have is an error."""

    recent: Annotated[list[str], PlainValidator(_recent), ITEMS_SCHEMA] | None = None
    """Item ids of the user's latest events, newest last; absent or null: those in the user's record."""

    context: Annotated[
        dict[StrictStr, StrictStr | StrictInt | StrictBool | FiniteNumber],
        Field(max_length=MAX_CONTEXT_FIELDS),
    ] = {}
    """Context field -> value. A numeric field takes a number, a boolean one true or false, a date one a date (ISO 8601)
    or epoch seconds; or a text that is one."""


class ScoreRequest(SlateRequest):
    """Score candidates for a user."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"user_id": "42", "candidates": ["7", 9], "top_k": 1},
                {
                    "user_id": "42",
                    "candidates": [
                        {"id": "7", "fields": {"display": "front end cap", "mailer": "cover"}},
                        {"id": 9, "fields": {"mailer": None}},
                    ],
                },
            ]
        }
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
    """A published model, or an experiment; absent: the model of requests that name none."""


Body = TypeVar("Body", bound=BaseModel)
Common = TypeVar("Common")
Answer = Callable[[Body | Common, float, int], Awaitable[Response]]
"""A route's function: body, deadline (moment of `time.monotonic()`) and priority -> response."""
Endpoint = Callable[[Request], Awaitable[Response]]


def _read_none(raw: bytes) -> None:
    """Leave every body to pydantic."""


def with_body(
    kind: type[Body],
    settings: Settings,
    parsers: ParserThread,
    read: Callable[[bytes], Common | None] = _read_none,
) -> Callable[[Answer[Body, Common]], Endpoint]:
    """Decorator for a route's function: it gets the parsed body, the deadline and the priority, not the request.

    The function is cancelled when the client closes the connection.

    Args:
        kind: class of the body.
        settings: limits of bodies and deadlines.
        parsers: parses large bodies.
        read: reads the common bodies faster; None: this one is left to pydantic.
    """
    limit = BodyLimit(settings.max_body_bytes, settings.body_timeout_s)
    limits = SlateLimits.of(settings)

    def parse(raw: bytes) -> Body | Common:
        body = read(raw)
        return parse_request(kind, raw, limits) if body is None else body

    def decorate(answer: Answer[Body, Common]) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            headers: Headers = request.scope[KEPT]  # by the middleware
            receive = request.receive
            deadline, priority = read_deadline_and_priority(headers, settings)
            raw = await receive_body(
                receive, headers, limit, request.scope.get("extensions", NONE).get(KEY)
            )
            body = await parsers.run(parse, raw) if len(raw) > LARGE_BYTES else parse(raw)
            with CancelledOnDisconnect(receive):
                return await answer(body, deadline, priority)

        # Not functools.wraps: FastAPI would read the signature of `answer`.
        endpoint.__name__, endpoint.__doc__ = answer.__name__, answer.__doc__
        return endpoint

    return decorate


def parse_request(kind: type[Body], raw: bytes, limits: SlateLimits | None) -> Body:
    """Parse a request's body.

    Args:
        kind: class of the body.
        raw: the body.
        limits: lengths of its lists; None limits none.

    Raises:
        RequestError: naming the field, what came and what was expected.
    """
    if limits is not None and len(raw) > LARGE_BYTES:
        bound_of(limits).check(raw)
    try:
        return kind.model_validate_json(raw, context=limits)
    except ValidationError as error:
        raise _request_error(error, list(kind.model_fields)) from error


def _request_error(error: ValidationError, fields: list[str]) -> RequestError:
    if error.error_count() > MAX_PROBLEMS:
        wrong = Unquoted(f"{error.error_count()} wrong fields or values")
        return RequestError("body", wrong, f"only the fields {', '.join(fields)}")
    first = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"]) or "body"
    match first["type"]:
        case "missing":
            return RequestError(field, Unquoted("nothing"), "a value: this field is required")
        case "extra_forbidden":
            hint = did_you_mean(field, fields)
            return RequestError("body", field, f"only the fields {', '.join(fields)}{hint}")
        case "json_invalid":
            return RequestError("body", short(first["input"]), f"JSON ({first['ctx']['error']})")
        case "too_long":
            got = Unquoted(f"more than {first['ctx']['max_length']} of them")
            return RequestError(field, got, f"at most {first['ctx']['max_length']}")
        case _:
            expected = first["msg"].removeprefix("Input should be ")
            return RequestError(field, short(first["input"]), expected)
