"""The errors that only the service raises. They know nothing of HTTP: `service/status.py` maps each to a status.

AbsorbError                    models/contract/errors.py
├── UnknownVersionError        the model exists, but another version of it serves
├── UnknownCallError           the gRPC service has no such call
├── UnknownUserError           the cache holds no record of that user
├── UserForgottenError         the user was forgotten, and must not come back
├── SourceUnavailableError     the source of live events does not answer
├── UnknownItemError           no new item has that id
├── NotReadyError              no model is loaded that can score
├── OverloadedError            too many requests are waiting
├── DeadlineError              the client's deadline passed before the answer was ready
├── ClientGoneError            the client closed the connection before the answer was ready
├── ArtifactError              models/contract/errors.py
│   ├── ScoreError             the score graph gave no score that can be used
│   └── BrokenModelError       nor does it from the cold-start state
├── AccessError                the API key does not allow this request
│   └── KeyMissingError        the request has no API key, or an unknown one
└── RequestError               models/contract/errors.py
    ├── BodyTooLargeError      the request body is longer than the limit
    ├── BodyTimeoutError       the request body did not arrive in time
    └── EncodingError          the content encoding of the request body is not supported
"""

from collections.abc import Iterable

from models.contract.errors import AbsorbError, ArtifactError, RequestError, Unquoted, shown
from models.contract.generation import Generation


class UnknownVersionError(AbsorbError):
    """The model exists, but another version of it serves."""

    def __init__(self, model: str, version: str, serves: str) -> None:
        super().__init__(
            f"version of model {model!r}: got {shown(version)}, expected {serves}, the only one loaded"
        )


class UnknownCallError(AbsorbError):
    """The gRPC service has no such call. The error does not repeat its name, which may be no text."""

    def __init__(self, service: str) -> None:
        super().__init__(f"call: got an unknown one, expected one of {service}")


class UnknownUserError(AbsorbError):
    """The cache holds no record of that user."""

    def __init__(self, user_id: str, model: str, generation: str) -> None:
        super().__init__(
            f"user_id: got {user_id!r}, expected a user of model {model!r}, generation {generation}"
        )


class UserForgottenError(AbsorbError):
    """The user was forgotten, and must not come back. The error does not repeat the id."""

    def __init__(self, field: str) -> None:
        super().__init__(f"{field}: got a user who was forgotten, expected any other")


class MetricsPortError(AbsorbError):
    """A worker cannot listen on the port of its metrics."""

    def __init__(self, host: str, port: int, why: str) -> None:
        super().__init__(
            f"ABSORB_FOLLOW_METRICS_PORT: got {host}:{port}, expected a free port: {why}"
        )


class SourceUnavailableError(AbsorbError):
    """The source of live events does not answer. The worker tries again."""

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(f"events from {source}: {reason}")


class UnknownItemError(AbsorbError):
    """No new item has that id."""

    def __init__(self, item_id: str) -> None:
        super().__init__(f"item_id: got {item_id!r}, expected a registered new item")


class NotReadyError(AbsorbError):
    """No model is loaded that can score."""


class OverloadedError(AbsorbError):
    """Too many requests are waiting.

    Attributes:
        retry_after_s: seconds after which the client should try again.
    """

    def __init__(self, why: str, retry_after_s: int = 1) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(f"overloaded: {why}; try again")


class DeadlineError(AbsorbError):
    """The client's deadline passed before the answer was ready."""

    def __init__(self) -> None:
        super().__init__("deadline exceeded: the answer was not ready in time")


class ClientGoneError(AbsorbError):
    """The client closed the connection before the answer was ready."""

    def __init__(self) -> None:
        super().__init__("the client closed the connection before the answer was ready")


class ScoreError(ArtifactError):
    """The score graph failed, or gave a score that is not finite. The record of the user may be the reason.

    Attributes:
        problem: what happened, without the name of a field.
    """

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(f"score: {problem}")


class BrokenModelError(ArtifactError):
    """The score graph gives no score from the cold-start state, so no record is the reason."""

    def __init__(self, problem: str, generation: Generation) -> None:
        super().__init__(
            f"score: {problem} from the cold-start state of model {generation.model!r}, generation "
            f"{generation.name}: the model is broken"
        )


class AccessError(AbsorbError):
    """The API key does not allow this request."""


class KeyMissingError(AccessError):
    """The request has no API key, or an unknown one. The error does not repeat the key."""

    def __init__(self, got: str) -> None:
        super().__init__(
            f"key: got {got}, expected a known key in X-API-Key or Authorization: Bearer"
        )


class BodyTooLargeError(RequestError):
    """The request body is longer than the limit."""

    def __init__(self, limit_bytes: int) -> None:
        got = Unquoted(f"more than {limit_bytes} bytes")
        super().__init__("body", got, f"at most {limit_bytes} bytes")


class BodyTimeoutError(RequestError):
    """The request body did not arrive in time."""

    def __init__(self, limit_s: float) -> None:
        got = Unquoted("only a part")
        super().__init__("body", got, f"the whole body within {limit_s:g} s")


class EncodingError(RequestError):
    """The content encoding of the request body is not supported."""

    def __init__(self, got: str, known: Iterable[str]) -> None:
        super().__init__("content-encoding", got, f"one of: {', '.join(known)}")
