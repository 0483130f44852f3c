"""The candidates of a request body: ids, objects that have candidate fields as well, or both in one list."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from math import isfinite
from types import NoneType
from typing import Any, NoReturn, TypeGuard, cast

from pydantic import PlainValidator, ValidationInfo, WithJsonSchema

from models.contract.errors import RequestError, Unquoted, did_you_mean, shown
from models.contract.vocabulary import are_ids, check_id
from service.transport.limits import MAX_CANDIDATE_FIELDS, SlateLimits

MAX_SHOWN = 80
"""Characters of a wrong value that an error repeats."""
KEYS = ("id", "fields")
"""Keys of a candidate that is an object."""
ROW_TYPES = {dict, NoneType}
"""Types of `fields`."""
ID_SCHEMA = {"anyOf": [{"type": "string", "minLength": 1, "maxLength": 128}, {"type": "integer"}]}
VALUE_SCHEMA = {"type": ["string", "number", "boolean", "null"]}
OBJECT_SCHEMA = {
    "type": "object",
    "properties": {
        "id": ID_SCHEMA,
        "fields": {
            "type": "object",
            "description": "Candidate field -> value; absent or null: the value is unknown.",
            "additionalProperties": VALUE_SCHEMA,
        },
    },
    "required": ["id"],
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class Candidates:
    """Candidates in the order of the request.

    Attributes:
        ids: raw item ids.
        fields: candidate field -> raw value of each candidate, None where it has none; empty if all are plain ids.
    """

    ids: Sequence[str]
    fields: Mapping[str, Sequence[str | None]] = field(default_factory=dict)


def short(value: object) -> object:
    """Shorten a wrong value for an error."""
    text = shown(value)
    return value if len(text) <= MAX_SHOWN else Unquoted(f"{text[:MAX_SHOWN]}…")


def read_id(name: str, value: object) -> str:
    """A user or item id, which may be written as an integer.

    Raises:
        RequestError: `value` is neither, or cannot be an id.
    """
    if type(value) is str:
        return check_id(name, value)
    if type(value) is int:
        return check_id(name, str(value))
    raise RequestError(name, short(value), "a string or an integer")


def require_list(name: str, value: object, most: int, expected: str) -> list[Any]:
    """Return a list of 1 to `most` elements.

    Args:
        name: of the field.
        value: what came.
        most: most elements.
        expected: what the error says was expected.

    Raises:
        RequestError: `value` is no list, or is empty or longer.
    """
    if not isinstance(value, list):
        raise RequestError(name, short(value), expected)
    if not 0 < len(value) <= most:
        raise RequestError(name, Unquoted(f"{len(value)} of them"), expected)
    return value


def are_texts(values: Sequence[object]) -> TypeGuard[list[str]]:
    """Whether all are strings that `check_id` accepts. No Python loop: slates are long."""
    return set(map(type, values)) == {str} and are_ids(cast(list[str], values))


def read_candidates(value: object, info: ValidationInfo) -> Candidates:
    """Read `candidates` within the limits in pydantic's context. The length is checked before any candidate is read.

    Raises:
        RequestError: there are too many; else as `candidates_of` raises.
    """
    limits: SlateLimits | None = info.context
    if limits is not None and isinstance(value, list) and len(value) > limits.candidates:
        raise RequestError("candidates", len(value), f"1 to {limits.candidates} item ids")
    return candidates_of(value)


def candidates_of(value: object) -> Candidates:
    """Read candidates: each is an id, or an object with an id and perhaps fields.

    Loops over candidates are comprehensions, and types are checked for all at once: slates are long, and this runs on
    the event loop.

    Raises:
        RequestError: names the candidate, what came and what was expected.
    """
    if not isinstance(value, list):
        expected = "a list of item ids, or of objects with an id and fields"
        raise RequestError("candidates", short(value), expected)
    if are_texts(value):
        return Candidates(value)
    objects = [one if type(one) is dict else {"id": one} for one in value]
    if not set(chain.from_iterable(objects)).issubset(KEYS):
        _refuse_key(objects)
    raw = [one.get("id") for one in objects]
    ids = raw if are_texts(raw) else [_read_candidate_id(at, one) for at, one in enumerate(value)]
    return Candidates(ids, _read_fields([one.get("fields") for one in objects]))


def _refuse_key(objects: Sequence[dict[str, object]]) -> NoReturn:
    at, key = next((at, key) for at, one in enumerate(objects) for key in one if key not in KEYS)
    hint = did_you_mean(key, KEYS)
    raise RequestError(f"candidates[{at}]", short(key), f"only the keys {', '.join(KEYS)}{hint}")


def _read_candidate_id(at: int, candidate: object) -> str:
    where = f"candidates[{at}]"
    if isinstance(candidate, dict):
        if "id" not in candidate:
            expected = "an item id: this key is required"
            raise RequestError(f"{where}.id", Unquoted("nothing"), expected)
        return read_id(f"{where}.id", candidate["id"])
    if type(candidate) not in (str, int):
        expected = "an item id (a string or an integer), or an object with an id and fields"
        raise RequestError(where, short(candidate), expected)
    return read_id(where, candidate)


def _read_fields(rows: list[Any]) -> dict[str, list[str | None]]:
    """Columns of the candidates' fields; a row is an object or None."""
    if not set(map(type, rows)) <= ROW_TYPES:
        at, wrong = next((at, row) for at, row in enumerate(rows) if type(row) not in ROW_TYPES)
        expected = "an object: candidate field -> value"
        raise RequestError(f"candidates[{at}].fields", short(wrong), expected)
    names = dict.fromkeys(chain.from_iterable(filter(None, rows)))
    if len(names) > MAX_CANDIDATE_FIELDS:
        got = Unquoted(f"{len(names)} different names")
        raise RequestError("candidates[].fields", got, f"at most {MAX_CANDIDATE_FIELDS}")
    return {name: _read_column(name, rows) for name in names}


def _read_column(name: str, rows: list[dict[str, Any] | None]) -> list[str | None]:
    values = [row.get(name) if row else None for row in rows]
    if set(map(type, values)) <= {str, NoneType}:
        return values
    return [_read_value(at, name, value) for at, value in enumerate(values)]


def _read_value(at: int, name: str, value: object) -> str | None:
    if value is None or type(value) is str:
        return value
    if type(value) in (int, bool) or (type(value) is float and isfinite(value)):
        return str(value)
    where = f"candidates[{at}].fields.{name}"
    raise RequestError(where, short(value), "a string, a finite number, true, false or null")


CHECK_CANDIDATES = PlainValidator(read_candidates)
CANDIDATES_SCHEMA = WithJsonSchema(
    {"type": "array", "items": {"anyOf": [*ID_SCHEMA["anyOf"], OBJECT_SCHEMA]}}
)
