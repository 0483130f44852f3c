"""The one table from an error to its HTTP status, and from the status to the gRPC code."""

from models.contract.errors import (
    AbsorbError,
    ArtifactError,
    ArtifactMissingError,
    ArtifactTamperedError,
    CacheUnavailableError,
    CorruptRecordError,
    ForeignRecordError,
    GenerationError,
    RecordError,
    RequestError,
    UnknownModelError,
)
from service.errors import (
    AccessError,
    BodyTimeoutError,
    BodyTooLargeError,
    BrokenModelError,
    ClientGoneError,
    DeadlineError,
    EncodingError,
    KeyMissingError,
    MetricsPortError,
    NotReadyError,
    OverloadedError,
    ScoreError,
    SourceUnavailableError,
    UnknownCallError,
    UnknownItemError,
    UnknownUserError,
    UnknownVersionError,
    UserForgottenError,
)

RETRY_AFTER_S = 1
"""Retry-After of a rejected request, in seconds."""
INTERNAL = "internal error; the log says more"
"""The text that clients get for an unexpected exception: its own text may hold secrets."""
RETRYABLE = frozenset({429, 503})
"""Statuses of requests that may succeed later: they carry Retry-After."""

STATUS: dict[type[AbsorbError], int] = {
    RequestError: 400,
    BodyTooLargeError: 413,
    BodyTimeoutError: 408,
    EncodingError: 415,
    KeyMissingError: 401,
    AccessError: 403,
    UnknownModelError: 404,
    UnknownVersionError: 404,
    UnknownCallError: 404,
    UnknownUserError: 404,
    UserForgottenError: 410,
    UnknownItemError: 404,
    OverloadedError: 429,
    NotReadyError: 503,
    DeadlineError: 504,
    # nginx's number. The client is gone: only the log and the metrics show it.
    ClientGoneError: 499,
    # Only GET /v1/users answers with it: scoring falls back to the cold-start state instead.
    CacheUnavailableError: 503,
    # Only the worker, which answers nobody, meets it.
    SourceUnavailableError: 503,
    # Not 503: the same request fails again until another generation serves.
    BrokenModelError: 500,
    # The pipeline and the follower catch these: one that reaches a client is a bug.
    AbsorbError: 500,
    ArtifactError: 500,
    ArtifactMissingError: 500,
    ArtifactTamperedError: 500,
    ScoreError: 500,
    RecordError: 500,
    CorruptRecordError: 500,
    ForeignRecordError: 500,
    GenerationError: 500,
    MetricsPortError: 500,
}

GRPC_CODES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    410: "NOT_FOUND",
    413: "RESOURCE_EXHAUSTED",
    415: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
"""HTTP status -> name of the gRPC code."""


def status_of(error: AbsorbError) -> int:
    """HTTP status of an error: that of its class, or of its nearest base class in the table."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def grpc_code_of(error: Exception) -> str:
    """Name of the gRPC code of an error; an unexpected exception is INTERNAL."""
    if isinstance(error, UnknownCallError):
        return "UNIMPLEMENTED"  # what gRPC's clients expect, where those of HTTP expect 404
    return GRPC_CODES[status_of(error) if isinstance(error, AbsorbError) else 500]


def retry_after_s(error: Exception) -> int | None:
    """Seconds after which a request may succeed; None: it will not."""
    if isinstance(error, OverloadedError):
        return error.retry_after_s
    is_retryable = isinstance(error, AbsorbError) and status_of(error) in RETRYABLE
    return RETRY_AFTER_S if is_retryable else None


def text_of(error: Exception) -> str:
    """The text of an error for clients: that of an unexpected exception stays in the log."""
    return str(error) if isinstance(error, AbsorbError) else INTERNAL


def retry_headers(status: int) -> dict[str, str]:
    """Headers that go with a status."""
    return {"Retry-After": str(RETRY_AFTER_S)} if status in RETRYABLE else {}


def headers_of(error: AbsorbError) -> dict[str, str]:
    """Headers that go with an error, beside those of its status."""
    if isinstance(error, OverloadedError):
        return {"Retry-After": str(error.retry_after_s)}
    if isinstance(error, BodyTimeoutError):
        # The client may go on sending the body: only closing the connection ends it.
        return {"Connection": "close"}
    return {"WWW-Authenticate": "Bearer"} if isinstance(error, KeyMissingError) else {}
