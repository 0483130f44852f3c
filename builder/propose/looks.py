"""What is in each column of a log: its type, its distinct values, its range, with examples."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import polars as pl

from builder.errors import EventsError
from builder.ingest.sources.files import find_tables
from builder.ingest.sources.scan import CSV, scan
from builder.propose.sniff import NULLS, sniff
from builder.recipe.reading import CsvRule

SAMPLE = 300_000
"""Most rows that are looked at for what is in a column; they are taken evenly from the whole file."""
Kind = Literal["integer", "float", "text", "time", "flag", "list", "other"]


@dataclass(frozen=True)
class Look:
    """What is in one column.

    Attributes:
        name: its name.
        kind: what its values are; numbers that a CSV has as texts are numbers.
        nulls: share of rows without a value.
        distinct: number of different values among the rows that were looked at.
        rows: number of rows that were looked at and have a value.
        low: smallest number; NaN where it has none.
        high: largest number.
        length: mean number of characters of a text.
        examples: some values.
    """

    name: str
    kind: Kind
    nulls: float
    distinct: int
    rows: int
    low: float
    high: float
    length: float
    examples: tuple[Any, ...]

    @property
    def is_near_unique(self) -> bool:
        """Whether most values stand in one row only."""
        return self.distinct > 0.5 * self.rows and self.distinct > 50


@dataclass(frozen=True)
class Seen:
    """A log that was looked at.

    Attributes:
        path: file, glob or folder as it was given.
        rows: number of rows.
        sample: rows taken evenly, with numbers where a CSV has texts of numbers.
        raw: the same rows as `ingest` reads them.
        lazy: all rows, as `ingest` reads them.
        csv: how its CSV files are written; None where it is Parquet.
        looks: every column, in order.
    """

    path: Path
    rows: int
    sample: pl.DataFrame
    raw: pl.DataFrame
    lazy: pl.LazyFrame
    csv: CsvRule | None
    looks: tuple[Look, ...]

    def look(self, name: str) -> Look:
        """The column of that name."""
        return next(look for look in self.looks if look.name == name)


def look_at(path: Path) -> Seen:
    """Look at a log.

    Args:
        path: Parquet or CSV file, glob or folder.

    Raises:
        EventsError: there is no such file, it cannot be read, or it has no row.
    """
    files = find_tables(path)
    if not files:
        raise EventsError(str(path), "no such file, expected a Parquet or CSV file, or a folder")
    try:
        rule = sniff(files[0]) if files[0].name.lower().endswith(CSV) else None
        rows, lazy, raw = _read(files, rule)
        if rule and (words := _null_words(raw)) - set(rule.nulls):
            rule = replace(rule, nulls=tuple(sorted(words | set(rule.nulls))))
            rows, lazy, raw = _read(files, rule)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise EventsError(str(path), f"cannot be read: {error}") from error
    if not rows:
        raise EventsError(str(path), "got a file without a row, expected at least one event")
    sample = raw.with_columns(_typed(raw)) if rule else raw
    return Seen(path, rows, sample, raw, lazy, rule, tuple(_look(values) for values in sample))


def _read(files: Sequence[Path], rule: CsvRule | None) -> tuple[int, pl.LazyFrame, pl.DataFrame]:
    """Number of rows of several files, the rows, and a sample of them."""
    lazy = pl.concat([scan(file, rule).lazy for file in files], how="diagonal_relaxed")
    rows = int(lazy.select(pl.len()).collect().item())
    return rows, lazy, lazy.gather_every(max(1, rows // SAMPLE)).collect()


def _null_words(raw: pl.DataFrame) -> set[str]:
    """Words for a missing value that stand among numbers."""
    words: set[str] = set()
    for values in raw.select(pl.col(pl.String)):
        is_number = values.cast(pl.Float64, strict=False).is_finite().fill_null(value=False)
        if is_number.sum() > 0.5 * len(values):
            others = values.filter(~is_number).drop_nulls().unique()
            words |= set(others.to_list()) & set(NULLS)
    return words


def _typed(frame: pl.DataFrame) -> Iterable[pl.Series]:
    """Columns of texts as numbers, where all their values are numbers."""
    for values in frame.select(pl.col(pl.String)):
        for dtype in (pl.Int64, pl.Float64):
            numbers = values.cast(dtype, strict=False)
            if numbers.null_count() == values.null_count() < len(values):
                yield numbers
                break


def _look(values: pl.Series) -> Look:
    kind, there = _kind(values), values.drop_nulls()
    if values.dtype.is_float():
        there = there.drop_nans()
    is_number = kind in ("integer", "float") and len(there) > 0
    low, high = (_number(there.min()), _number(there.max())) if is_number else (float("nan"),) * 2
    if kind == "float" and len(there) and (there == there.floor()).all() and abs(high) < 2**53:
        kind = "integer"
    distinct = 0 if kind in ("list", "other") else there.n_unique()
    length = there.str.len_chars().mean() if values.dtype == pl.String and len(there) else 0.0
    return Look(
        name=values.name,
        kind=kind,
        nulls=1 - len(there) / max(1, len(values)),
        distinct=distinct,
        rows=len(there),
        low=low,
        high=high,
        length=_number(length),
        examples=tuple(there.head(3).to_list()),
    )


def _number(value: Any) -> float:
    return float(value)


def _kind(values: pl.Series) -> Kind:
    dtype = values.dtype
    if dtype.is_integer():
        return "integer"
    if dtype.is_float() or dtype.is_decimal():
        return "float"
    if dtype == pl.Boolean:
        return "flag"
    if dtype in (pl.Date, pl.Datetime):
        return "time"
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        return "text"
    return "list" if dtype in (pl.List, pl.Array) else "other"
