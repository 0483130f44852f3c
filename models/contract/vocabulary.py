"""Raw ids and values <-> dense ids. The builder makes a vocabulary; the service reads requests with it."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from models.contract.errors import RequestError, did_you_mean
from models.contract.field_reader import (
    FieldReader,
    KindReader,
    WordReader,
    readers_from_json,
    readers_to_json,
)
from models.contract.prototypes import Prototypes
from models.contract.row_index import RowIndex, as_words
from models.contract.schema import FIRST_KNOWN, UNKNOWN, FeatureSchema, Field
from models.contract.strict_json import read_json

Value = TypeVar("Value")
MAX_ID_LENGTH = 128
"""Longest user or item id, in characters. A longer one is a mistake, or an attack on the cache's keys."""


def check_id(name: str, value: str) -> str:
    """Return `value` if it can be a user or item id.

    Raises:
        RequestError: `value` is empty, longer than `MAX_ID_LENGTH`, or holds unprintable characters.
    """
    if not value or len(value) > MAX_ID_LENGTH or not value.isprintable():
        shown = value if len(value) <= 40 else f"{value[:40]}… ({len(value)} characters)"
        raise RequestError(name, shown, f"1 to {MAX_ID_LENGTH} printable characters")
    return value


def are_ids(values: Sequence[str]) -> bool:
    """Whether `check_id` accepts all of `values`. No Python loop over them, since a slate has a thousand."""
    lengths = set(map(len, values))
    longest = max(lengths, default=0)
    return 0 not in lengths and longest <= MAX_ID_LENGTH and "".join(values).isprintable()


def check_ids(name: str, values: Sequence[str]) -> None:
    """Check that all of `values` can be ids.

    Raises:
        RequestError: one of `values` cannot be an id; names the first.
    """
    if not are_ids(values):
        for position, value in enumerate(values):
            check_id(f"{name}[{position}]", value)


def check_context_fields(names: Iterable[str], known: Collection[str]) -> None:
    """Check that a request's context names only fields in `known`.

    Raises:
        RequestError: a name is not in `known`.
    """
    _check_fields("context", "context", names, known)


def check_candidate_fields(names: Iterable[str], known: Collection[str]) -> None:
    """Check that a request's candidates name only fields in `known`.

    Raises:
        RequestError: a name is not in `known`.
    """
    _check_fields("candidates[].fields", "candidate", names, known)


def _check_fields(where: str, kind: str, names: Iterable[str], known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            listed = f"a field among: {', '.join(known)}{did_you_mean(name, known)}"
            expected = listed if known else f"no field: the model has no {kind} fields"
            raise RequestError(where, name, expected)


@dataclass(frozen=True)
class Vocabulary:
    """Raw values in the order of their dense ids, which start at `FIRST_KNOWN`.

    Attributes:
        items: raw item ids; position + `FIRST_KNOWN` is an item's catalogue row.
        user: name of a user field -> its raw values.
        context: name of a context field -> its raw values.
        candidate: name of a candidate field -> its raw values; empty in older artifacts.
        prototypes: rows behind the items, for new items; None in older artifacts, and for items without fields.
        readers: kind of field ("item", "user", "context", "candidate") -> field -> how its values become ids, for
            fields that are not categorical; their "raw values" above are names of ids. Those of item fields are for the
            builder: artifacts have them in `prototypes`.
    """

    items: Sequence[str]
    user: Mapping[str, Sequence[str]]
    context: Mapping[str, Sequence[str]]
    candidate: Mapping[str, Sequence[str]] = field(default_factory=dict)
    prototypes: Prototypes | None = None
    readers: Mapping[str, Mapping[str, KindReader]] = field(default_factory=dict)
    _rows: dict[str, int] = field(init=False, repr=False, compare=False)
    _index: RowIndex | None = field(init=False, repr=False, compare=False)
    _readers: dict[tuple[str, str], FieldReader] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_rows", _index(self.items))
        object.__setattr__(self, "_index", _row_index(self.items))
        readers = {
            (kind, name): self._reader(kind, name, values)
            for kind, fields in (
                ("user", self.user),
                ("context", self.context),
                ("candidate", self.candidate),
            )
            for name, values in fields.items()
        }
        object.__setattr__(self, "_readers", readers)

    def _reader(self, kind: str, name: str, values: Sequence[str]) -> FieldReader:
        known = _index(values)
        reader = self.readers.get(kind, {}).get(name)
        if reader is None:
            return WordReader(known)
        if reader.size != len(known):
            raise ValueError(f"vocabulary, {name}: got {len(known)} names of {reader.size} ids")
        return reader

    def reader(self, kind: Literal["user", "context", "candidate"], name: str) -> FieldReader:
        """What reads the values of a field."""
        return self._readers[kind, name]

    def item_rows(self, items: Sequence[str]) -> NDArray[np.int64]:
        """Catalogue rows of raw item ids; `UNKNOWN` for ids that are not in the catalogue."""
        words = None if self._index is None else as_words(items)
        if self._index is not None and words is not None:
            return self._index.find(words, UNKNOWN)
        return np.fromiter(map(self._rows.get, items, repeat(UNKNOWN)), np.int64)

    @property
    def first_prototype(self) -> int:
        """Row of the first prototype: the first one behind the items."""
        return len(self.items) + FIRST_KNOWN

    @property
    def num_rows(self) -> int:
        """Rows of the catalogue: `PADDING`, `UNKNOWN`, items and prototypes."""
        return self.first_prototype + (len(self.prototypes) if self.prototypes else 0)

    def new_item_row(self, values: Mapping[str, str]) -> int:
        """Row by which a new item is scored: the prototype that shares most of its fields, else `UNKNOWN`.

        Args:
            values: item field -> raw value.
        """
        place = self.prototypes.find(values) if self.prototypes else None
        return UNKNOWN if place is None else self.first_prototype + place

    def user_ids(self, values: Mapping[str, object]) -> NDArray[np.int64]:
        """Dense ids of a user's profile, [num user fields]; `UNKNOWN` where a value is missing or unknown."""
        return self._encode("user", self.user, values)

    def context_ids(self, values: Mapping[str, object]) -> NDArray[np.int64]:
        """Dense ids of a request's context, [num context fields]; `UNKNOWN` where a value is missing or unknown.

        Raises:
            RequestError: `values` names a field that the model does not have.
        """
        check_context_fields(values, self.context)
        return self._encode("context", self.context, values)

    def unknown_context(self, values: Mapping[str, object]) -> dict[str, list[str | None]]:
        """Context field -> the request's value of it, for values that are unknown or missing; None: it is missing."""
        unknown: dict[str, list[str | None]] = {}
        for name in self.context:
            value, reader = _text(values, name), self._readers["context", name]
            if reader.id(value) <= reader.last_listed:
                unknown[name] = [value]
        return unknown

    def candidate_ids(
        self, values: Mapping[str, Sequence[str | None]], num_candidates: int
    ) -> NDArray[np.int64]:
        """Dense ids of the candidates' fields, [num candidates, num candidate fields].

        Args:
            values: field -> the raw value of each candidate, None where it has none; fields may be absent.
            num_candidates: number of candidates.

        Returns:
            The ids; `UNKNOWN` where training has not seen a value, and where it is missing, unless missing
            values of the field have an id of their own.

        Raises:
            RequestError: `values` names a field that the model does not have.
        """
        check_candidate_fields(values, self.candidate)
        ids = np.full((num_candidates, len(self.candidate)), UNKNOWN, np.int64)
        for column, name in enumerate(self.candidate):
            ids[:, column] = self.candidate_column(name, values.get(name))
        return ids

    def candidate_column(self, name: str, values: Sequence[str | None] | None) -> NDArray[np.int64]:
        """Dense ids of one candidate field, [num candidates]; None: one id, [1], of candidates without a value."""
        return self._readers["candidate", name].ids([None] if values is None else values)

    def last_listed(self) -> dict[str, int]:
        """Candidate field -> highest id of the values that an answer lists: those that are unknown or missing."""
        return {name: self._readers["candidate", name].last_listed for name in self.candidate}

    def known_candidate_fields(self, values: Mapping[str, Value]) -> dict[str, Value]:
        """The fields of a request's candidates that the model has, for a request made for another model."""
        return {name: value for name, value in values.items() if name in self.candidate}

    def known_context(self, values: Mapping[str, Value]) -> dict[str, Value]:
        """The fields of a request's context that the model has, for a request made for another model."""
        return {name: value for name, value in values.items() if name in self.context}

    def _encode(
        self, kind: str, fields: Mapping[str, Sequence[str]], values: Mapping[str, object]
    ) -> NDArray[np.int64]:
        ids = [self._readers[kind, name].id(_text(values, name)) for name in fields]
        return np.array(ids, np.int64)

    def check(self, schema: FeatureSchema) -> None:
        """Check that the sizes are those of `schema`.

        Raises:
            ValueError: a size differs.
        """
        checks: tuple[tuple[str, object, object], ...] = (
            ("items", self.num_rows, schema.num_items),
            ("user fields", _fields(self.user), schema.user_fields),
            ("context fields", _fields(self.context), schema.context_fields),
            ("candidate fields", _fields(self.candidate), schema.candidate_fields),
        )
        for what, got, expected in checks:
            if got != expected:
                raise ValueError(f"vocabulary, {what}: got {got}, the schema expects {expected}")

    def to_bytes(self) -> bytes:
        """The vocabulary as JSON, for the artifact; as in older ones if it lacks what those lack."""
        fields: dict[str, object] = {
            "items": list(self.items),
            "user": dict(self.user),
            "context": dict(self.context),
        }
        if self.candidate:
            fields["candidate"] = dict(self.candidate)
        if self.prototypes:
            fields["prototypes"] = self.prototypes.to_json()
        readers = {kind: readers_to_json(own) for kind, own in self.readers.items() if own}
        if readers:
            fields["readers"] = readers
        return json.dumps(fields, ensure_ascii=False).encode()

    @classmethod
    def from_bytes(cls, raw: bytes) -> "Vocabulary":
        """Inverse of `to_bytes`."""
        fields = read_json(raw)
        if "prototypes" in fields:
            fields["prototypes"] = Prototypes.from_json(fields["prototypes"])
        if "readers" in fields:
            fields["readers"] = {
                kind: readers_from_json(own) for kind, own in fields["readers"].items()
            }
        return cls(**fields)


def _text(values: Mapping[str, object], name: str) -> str | None:
    """A value as a text; None if it is missing."""
    value = values.get(name)
    return None if value is None else str(value)


def _fields(values: Mapping[str, Sequence[str]]) -> tuple[Field, ...]:
    return tuple(Field(name, len(known) + FIRST_KNOWN) for name, known in values.items())


def _row_index(items: Sequence[str]) -> RowIndex | None:
    """An index of the items; None if an id does not fit, and then the dict is used."""
    try:
        return RowIndex(items, FIRST_KNOWN)
    except ValueError:
        return None


def _index(values: Sequence[str]) -> dict[str, int]:
    index = {value: dense for dense, value in enumerate(values, FIRST_KNOWN)}
    if len(index) != len(values):
        raise ValueError(
            f"vocabulary: got {len(values) - len(index)} duplicate value(s), expected none"
        )
    return index
