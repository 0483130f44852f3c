"""How the raw values of one field become dense ids: words are looked up, numbers and ages of dates fall into buckets.

The builder and the service read values by the same code, so that a value has one id offline and online.
"""

import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import repeat
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from models.contract.schema import FIRST_KNOWN, UNKNOWN

NUMERIC, BOOLEAN, DATE = "numeric", "boolean", "date"
MISSING = ""
"""Name of the id that a missing value has."""
WORDS_OF = {
    "false": ("false", "f", "no", "n", "off", "0", "0.0"),
    "true": ("true", "t", "yes", "y", "on", "1", "1.0"),
}
"""Truth value -> texts that mean it, in lower case."""
DAY_S = 86_400
FIRST_EPOCH_S, LAST_EPOCH_S = 1e8, 1e11
"""A number is a date only between these, March 1973 and the year 5138: beyond them it is in another unit."""
AGE = re.compile(r"(-?)P(\d{1,9})D")
YEAR = re.compile(r"\d{4}")
Ids = NDArray[np.int64]
Numbers = NDArray[np.float64]


@runtime_checkable
class FieldReader(Protocol):
    """Reads the values of one field."""

    @property
    def last_listed(self) -> int:
        """Highest id of the values that an answer lists: those that are unknown, or missing."""

    def id(self, value: str | None, at_s: float | None = None) -> int:
        """Dense id of one value; None: there is none."""

    def ids(self, values: Sequence[str | None], at_s: float | None = None) -> Ids:
        """Dense ids of several values.

        Args:
            values: texts; None: there is none.
            at_s: epoch second from which ages are measured; None: now.
        """


@dataclass(frozen=True)
class WordReader:
    """Reads a categorical field: a value has the id of its text, or `UNKNOWN`."""

    known: Mapping[str, int]

    @property
    def last_listed(self) -> int:
        """Highest id of the values that an answer lists."""
        return UNKNOWN

    def id(self, value: str | None, at_s: float | None = None) -> int:
        """Dense id of one value."""
        return UNKNOWN if value is None else self.known.get(value, UNKNOWN)

    def ids(self, values: Sequence[str | None], at_s: float | None = None) -> Ids:
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

    def id(self, value: str | None, at_s: float | None = None) -> int:
        """Dense id of one value."""
        return int(self.ids([value])[0])

    def ids(self, values: Sequence[str | None], at_s: float | None = None) -> Ids:
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


@dataclass(frozen=True)
class BooleanReader:
    """Reads a field of truth values: `WORDS_OF` says which texts mean which.

    Attributes:
        names: what the ids stand for: those of `MISSING`, "false" and "true" that training has seen, in this order.
    """

    names: tuple[str, ...]
    _ids: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.names != tuple(name for name in (MISSING, *WORDS_OF) if name in self.names):
            raise ValueError(f"boolean field: got {self.names}, expected some of '', false, true")
        ids = {
            word: dense
            for dense, name in enumerate(self.names, FIRST_KNOWN)
            for word in WORDS_OF.get(name, (MISSING,))
        }
        object.__setattr__(self, "_ids", ids)

    @property
    def size(self) -> int:
        """Number of ids, without `PADDING` and `UNKNOWN`."""
        return len(self.names)

    @property
    def last_listed(self) -> int:
        """Highest id of the values that an answer lists."""
        return FIRST_KNOWN if MISSING in self.names else UNKNOWN

    def id(self, value: str | None, at_s: float | None = None) -> int:
        """Dense id of one value."""
        return self._ids.get((value or MISSING).strip().lower(), UNKNOWN)

    def ids(self, values: Sequence[str | None], at_s: float | None = None) -> Ids:
        """Dense ids of several values."""
        known = {value: self.id(value) for value in dict.fromkeys(values)}
        return np.fromiter(map(known.__getitem__, values), np.int64, len(values))

    def to_json(self) -> dict[str, object]:
        """The reader in JSON types."""
        return {"kind": BOOLEAN, "names": list(self.names)}


@dataclass(frozen=True)
class DateReader:
    """Reads a field of dates: a date has the id of the bucket of its age in whole days.

    Attributes:
        ages: reads the ages; a date in the future has a negative one.
    """

    ages: NumberReader

    @property
    def size(self) -> int:
        """Number of ids, without `PADDING` and `UNKNOWN`."""
        return self.ages.size

    @property
    def last_listed(self) -> int:
        """Highest id of the values that an answer lists."""
        return self.ages.last_listed

    def id(self, value: str | None, at_s: float | None = None) -> int:
        """Dense id of one value."""
        return int(self.ids([value], at_s)[0])

    def ids(self, values: Sequence[str | None], at_s: float | None = None) -> Ids:
        """Dense ids of several values."""
        now_s = time.time() if at_s is None else at_s
        return self.ages.ids_of_numbers(read_ages(values, np.full(len(values), now_s)))

    def to_json(self) -> dict[str, object]:
        """The reader in JSON types."""
        return {**self.ages.to_json(), "kind": DATE}


KindReader = NumberReader | BooleanReader | DateReader
"""Reads a field that is not categorical."""


def readers_to_json(readers: Mapping[str, KindReader]) -> dict[str, object]:
    """Field -> its reader in JSON types."""
    return {name: reader.to_json() for name, reader in readers.items()}


def readers_from_json(fields: Mapping[str, Mapping[str, Any]]) -> dict[str, KindReader]:
    """Inverse of `readers_to_json`.

    Raises:
        ValueError: a kind is none that this version knows, or the edges or names are none.
    """
    return {name: _reader_from_json(name, own) for name, own in fields.items()}


def _reader_from_json(name: str, fields: Mapping[str, Any]) -> KindReader:
    kind = fields["kind"]
    if kind == BOOLEAN:
        return BooleanReader(tuple(fields["names"]))
    if kind not in (NUMERIC, DATE):
        expected = ", ".join((NUMERIC, BOOLEAN, DATE))
        raise ValueError(f"field {name!r}: got kind {kind!r}, expected one of: {expected}")
    numbers = NumberReader(tuple(map(float, fields["edges"])), bool(fields["has_missing"]))
    return DateReader(numbers) if kind == DATE else numbers


def read_ages(values: Sequence[str | None], at_s: Numbers) -> Numbers:
    """Ages of dates in whole days, rounded down; those of the future are negative.

    A date is ISO 8601 (UTC without an offset), a year, or epoch seconds; `P12D` is the age of 12 days itself.

    Args:
        values: texts.
        at_s: epoch second from which each age is measured, [values].

    Returns:
        NaN for a missing value, an infinity for a text that is no date.
    """
    known = {value: _date_or_age(value) for value in dict.fromkeys(values)}
    pairs = np.array([known[value] for value in values], np.float64).reshape(-1, 2)
    dates_s, ages = pairs[:, 0], pairs[:, 1]
    return np.where(np.isnan(ages), np.floor((at_s - dates_s) / DAY_S), ages)


def _date_or_age(value: str | None) -> tuple[float, float]:
    """Epoch second and NaN, or NaN and an age."""
    text = "" if value is None else value.strip()
    if not text or text.lower() == "nan":
        return math.nan, math.nan
    age = AGE.fullmatch(text)
    if age:
        return math.nan, int(age[2]) * (-1.0 if age[1] else 1.0)
    moment_s = _epoch_s(f"{text}-01-01" if YEAR.fullmatch(text) else text)
    return (moment_s, math.nan) if math.isfinite(moment_s) else (math.nan, math.inf)


def _epoch_s(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text.removesuffix(" UTC"))
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return aware.timestamp()
    except (ValueError, OverflowError):
        pass
    try:
        number = float(text)
    except ValueError:
        return math.inf
    return number if FIRST_EPOCH_S <= number <= LAST_EPOCH_S else math.inf


def numbers_of_names(names: Sequence[str]) -> Numbers:
    """Numbers, or ages in days, that the names of buckets say."""
    return read_numbers([re.sub("[PD]", "", name) for name in names])


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
