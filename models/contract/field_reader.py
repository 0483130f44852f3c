"""How the raw values of one field become dense ids: words are looked up, numbers fall into buckets.

The builder and the service read values by the same code, so that a value has one id offline and online.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from models.contract.schema import FIRST_KNOWN, UNKNOWN

NUMERIC = "numeric"
MISSING = ""
"""Name of the id that a missing number has."""
Ids = NDArray[np.int64]
Numbers = NDArray[np.float64]


@runtime_checkable
class FieldReader(Protocol):
    """Reads the values of one field."""

    @property
    def last_listed(self) -> int:
        """Highest id of the values that an answer lists: those that are unknown, or missing."""

    def id(self, value: str | None) -> int:
        """Dense id of one value; None: there is none."""

    def ids(self, values: Sequence[str | None]) -> Ids:
        """Dense ids of several values."""


@dataclass(frozen=True)
class WordReader:
    """Reads a categorical field: a value has the id of its text, or `UNKNOWN`."""

    known: Mapping[str, int]

    @property
    def last_listed(self) -> int:
        """Highest id of the values that an answer lists."""
        return UNKNOWN

    def id(self, value: str | None) -> int:
        """Dense id of one value."""
        return UNKNOWN if value is None else self.known.get(value, UNKNOWN)

    def ids(self, values: Sequence[str | None]) -> Ids:
        """Dense ids of several values."""
        found = map(self.known.get, values, repeat(UNKNOWN))  # type: ignore[arg-type]
        return np.fromiter(found, np.int64, len(values))


@dataclass(frozen=True)
class NumberReader:
    """Reads a numeric field: a number has the id of its bucket.

    Bucket b holds the numbers from edges[b - 1] up to, but not including, edges[b]; the first and the last bucket have
    no end. A text that is no finite number is `UNKNOWN`.

    Attributes:
        edges: rising; one bucket more than edges.
        has_missing: missing numbers have an id of their own, the first; else they are `UNKNOWN`, for training had none.
    """

    edges: tuple[float, ...]
    has_missing: bool
    _edges: Numbers = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        edges = np.array(self.edges, np.float64)
        if not np.isfinite(edges).all() or (np.diff(edges) <= 0).any():
            raise ValueError("numeric field: got edges that do not rise, expected finite ones")
        object.__setattr__(self, "_edges", edges)

    @property
    def size(self) -> int:
        """Number of ids, without `PADDING` and `UNKNOWN`."""
        return len(self.edges) + 1 + self.has_missing

    @property
    def last_listed(self) -> int:
        """Highest id of the values that an answer lists."""
        return FIRST_KNOWN if self.has_missing else UNKNOWN

    def id(self, value: str | None) -> int:
        """Dense id of one value."""
        return int(self.ids([value])[0])

    def ids(self, values: Sequence[str | None]) -> Ids:
        """Dense ids of several values."""
        return self.ids_of_numbers(read_numbers(values))

    def ids_of_numbers(self, numbers: Numbers) -> Ids:
        """Dense ids of what `read_numbers` gives."""
        ids: Ids = np.searchsorted(self._edges, numbers, side="right").astype(np.int64)
        ids += FIRST_KNOWN + self.has_missing
        ids[np.isinf(numbers)] = UNKNOWN
        ids[np.isnan(numbers)] = self.last_listed
        return ids

    def to_json(self) -> dict[str, object]:
        """The reader in JSON types."""
        return {"kind": NUMERIC, "edges": list(self.edges), "has_missing": self.has_missing}


def readers_to_json(readers: Mapping[str, NumberReader]) -> dict[str, object]:
    """Field -> its reader in JSON types."""
    return {name: reader.to_json() for name, reader in readers.items()}


def readers_from_json(fields: Mapping[str, Mapping[str, Any]]) -> dict[str, NumberReader]:
    """Inverse of `readers_to_json`.

    Raises:
        ValueError: a kind is none that this version knows, or the edges are none.
    """
    readers = {}
    for name, own in fields.items():
        if own["kind"] != NUMERIC:
            raise ValueError(f"field {name!r}: got kind {own['kind']!r}, expected {NUMERIC!r}")
        readers[name] = NumberReader(tuple(map(float, own["edges"])), bool(own["has_missing"]))
    return readers


def read_numbers(values: Sequence[str | None]) -> Numbers:
    """Numbers of texts, as Python's `float` reads them.

    Returns:
        NaN for a missing value (None, an empty text, "nan"), an infinity for a text that is no finite number.
    """
    try:
        return np.array(list(map(float, values)), np.float64)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return np.array([_number(value) for value in values], np.float64)


def _number(value: str | None) -> float:
    if value is None or not value.strip():
        return math.nan
    try:
        return float(value)
    except ValueError:
        return math.inf
