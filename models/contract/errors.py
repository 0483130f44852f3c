"""The root of all errors, and the errors that `models` or both halves raise.

AbsorbError                        root: input from outside (file, network, request) that cannot be used
├── UnknownModelError              no model of that name
├── RequestError                   a value that a client sent cannot be scored      more in service/errors.py
├── ArtifactError                  an artifact cannot be used                       more in builder/errors.py
│   ├── ArtifactMissingError       its folder, or a file that its manifest names, is missing
│   └── ArtifactTamperedError      the content of a file differs from the manifest
├── RecordError                    a value in the cache cannot be used
│   ├── CorruptRecordError         it is truncated, damaged, or not a record
│   └── ForeignRecordError         it was made by another artifact, or for another user
├── GenerationError                a generation pointer cannot be read
├── CacheUnavailableError          the cache does not answer
├── ...                            errors of the service: service/errors.py
└── ...                            errors of the builder: builder/errors.py

Constructors take facts and write the sentence: the field, what came, what was expected. A wrong argument in our own
code is a `ValueError`, not an `AbsorbError`.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from reprlib import Repr
from typing import Any

MAX_HINTED = 64
"""Longest name, in characters, for which a close match is searched: the search time grows with the length."""
MAX_ECHOED = 200
"""Most characters of a received value that an error repeats."""
MAX_LISTED = 20
"""Most elements of a received list or object that an error repeats."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A clause that names the closest known name, or an empty string."""
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
    """A received value as an error repeats it: shortened, since clients can send megabytes or deeply nested lists."""
    return _cut(_BRIEF.repr(value[:MAX_ECHOED] if isinstance(value, bytes) else value))


def _cut(text: str) -> str:
    return text if len(text) <= MAX_ECHOED else f"{text[:MAX_ECHOED]}…"


class Unquoted(str):
    """A received value in words: errors show it without quotes."""

    __repr__ = str.__str__


class AbsorbError(Exception):
    """Root of all errors raised on purpose: input from outside that cannot be used.

    Attributes:
        exit_code: of a command that ends with the error.
    """

    exit_code = 1

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle text and attributes, not the constructor's arguments: errors leave worker processes."""
        return _rebuilt, (type(self), str(self), self.__dict__)


def _rebuilt(kind: type[AbsorbError], text: str, attributes: dict[str, Any]) -> AbsorbError:
    error = kind.__new__(kind, text)
    error.__dict__.update(attributes)
    return error


class UnknownModelError(AbsorbError):
    """No model of that name."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        listed = ", ".join(names) or "none"
        super().__init__(
            f"model: got {shown(name)}, expected one of: {listed}{did_you_mean(name, names)}"
        )


class RequestError(AbsorbError):
    """A value that a client sent cannot be scored."""

    def __init__(self, field: str, got: object, expected: str) -> None:
        super().__init__(f"{_cut(field)}: got {shown(got)}, expected {expected}")


class ArtifactError(AbsorbError):
    """An artifact cannot be used."""


class ArtifactMissingError(ArtifactError):
    """The folder of an artifact, or a file that its manifest names, is missing."""

    def __init__(self, path: str) -> None:
        super().__init__(f"artifact: {path} is missing")


class ArtifactTamperedError(ArtifactError):
    """The content of a file differs from the manifest."""

    def __init__(self, path: str, expected: str, got: str) -> None:
        super().__init__(f"artifact: {path} has hash {got}, the manifest expects {expected}")


class RecordError(AbsorbError):
    """A value in the cache cannot be used."""


class CorruptRecordError(RecordError):
    """A value in the cache is truncated, damaged, or not a record."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"record: {reason}")


class ForeignRecordError(RecordError):
    """A record was made by another artifact, or for another user."""

    def __init__(self, what: str, got: str, expected: str) -> None:
        super().__init__(f"record: {what} is {got!r}, expected {expected!r}")


class GenerationError(AbsorbError):
    """A generation pointer cannot be read."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"generation pointer {key}: {reason}")


class CacheUnavailableError(AbsorbError):
    """The cache does not answer. The URL must come without its password."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"cache {url}: {reason}")
