"""The one table from an error to the status that says it over HTTP, and from that to the code over gRPC."""

from models.contract.errors import (
    AbsorbError,
    AccessError,
    ArtifactError,
    ArtifactMissingError,
    ArtifactTamperedError,
    BodyTimeoutError,
    BodyTooLargeError,
    CacheUnavailableError,
    ClientGoneError,
    CorruptRecordError,
    DeadlineError,
    EncodingError,
    EventsError,
    ExportMismatchError,
    ForeignRecordError,
    GenerationError,
    KeyMissingError,
    LockHeldError,
    NotReadyError,
    OverloadedError,
    PublishError,
    RecipeError,
    RecordError,
    RequestError,
    StepError,
    UnknownModelError,
    UnknownUserError,
    UnknownVersionError,
    WeightsError,
    WeightsMissingError,
    WeightsTamperedError,
)

RETRY_AFTER_S = 1
"""Seconds after which a client that was sent away may try again."""
INTERNAL = "internal error; the log says more"
"""What strangers are told of an exception that nobody expected."""
AWAY = frozenset({429, 503})
"""Statuses that say "not now": they carry Retry-After."""

STATUS: dict[type[AbsorbError], int] = {
    RequestError: 400,
    BodyTooLargeError: 413,
    BodyTimeoutError: 408,
    EncodingError: 415,
    KeyMissingError: 401,
    AccessError: 403,
    UnknownModelError: 404,
    UnknownVersionError: 404,
    UnknownUserError: 404,
    OverloadedError: 429,
    NotReadyError: 503,
    DeadlineError: 504,
    # Nobody reads it: nginx's number, so that the log and the metrics can tell.
    ClientGoneError: 499,
    # Only GET /v1/users lets this out: scoring falls back to the cold-start state instead.
    CacheUnavailableError: 503,
    # The pipeline and the follower decide about these; one that gets out is a fault of ours.
    AbsorbError: 500,
    ArtifactError: 500,
    ArtifactMissingError: 500,
    ArtifactTamperedError: 500,
    ExportMismatchError: 500,
    RecordError: 500,
    CorruptRecordError: 500,
    ForeignRecordError: 500,
    GenerationError: 500,
    # The builder's own.
    RecipeError: 500,
    EventsError: 500,
    StepError: 500,
    LockHeldError: 500,
    PublishError: 500,
    WeightsError: 500,
    WeightsMissingError: 500,
    WeightsTamperedError: 500,
}

GRPC_CODES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    413: "RESOURCE_EXHAUSTED",
    415: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
"""Status -> the code that says it over gRPC."""


def status_of(error: AbsorbError) -> int:
    """HTTP status of an error: that of its class, or of the nearest class above which has one."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def text_of(error: Exception) -> str:
    """What strangers are told of an error: what the unexpected ones say stays in the log."""
    return str(error) if isinstance(error, AbsorbError) else INTERNAL


def retry_headers(status: int) -> dict[str, str]:
    """Headers that go with a status."""
    return {"Retry-After": str(RETRY_AFTER_S)} if status in AWAY else {}


def headers_of(error: AbsorbError) -> dict[str, str]:
    """Headers that go with an error, beside those of its status."""
    if isinstance(error, OverloadedError):
        return {"Retry-After": str(error.retry_after_s)}
    if isinstance(error, BodyTimeoutError):
        # The rest of the body may come for ever: nothing but the end of the connection ends it.
        return {"Connection": "close"}
    return {"WWW-Authenticate": "Bearer"} if isinstance(error, KeyMissingError) else {}
