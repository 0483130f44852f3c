"""Checks and conversions of a single column of a raw table."""

from collections.abc import Iterable

import polars as pl

from builder.sources.raw import Table
from models.errors import EventsError, did_you_mean

UNITS_PER_S = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
TIME_FORMATS = (
    "%Y-%m-%d %H:%M:%S%.f%:z",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%d",
)


def require_columns(table: Table, names: Iterable[str]) -> None:
    """Raise EventsError unless the table has all columns; all that lack are named."""
    there = table.frame.columns
    lacking = [f"{name!r}{did_you_mean(name, there)}" for name in names if name not in there]
    if lacking:
        raise EventsError(
            table.source, f"no column {', '.join(lacking)}; columns there are: {', '.join(there)}"
        )


def require_values(table: Table, column: str) -> None:
    """Raise EventsError if the column has nulls or NaN."""
    values = table.frame[column]
    empty = values.is_null()
    if values.dtype.is_float():
        empty = empty | values.is_nan().fill_null(value=False)
    if empty.any():
        raise EventsError(
            table.source,
            f"column {column!r}: {empty.sum()} of {len(values)} values are missing, first: "
            f"{example(values, empty)}",
        )


def example(values: pl.Series, chosen: pl.Series) -> str:
    """The first chosen value and its row, counted from 1 without the header."""
    row = chosen.fill_null(value=False).arg_max() or 0
    return f"{values[row]!r} in row {row + 1}"


def as_text(values: pl.Series) -> pl.Series:
    """Values as Python's `str` writes them, whole floats without ".0"; nulls stay."""
    if values.dtype == pl.Boolean:
        return values.cast(pl.String).str.to_titlecase()
    if values.dtype.is_float():
        values = values.fill_nan(None)
        whole = (values == values.floor()).all()
        return values.cast(pl.Int64 if whole else values.dtype, strict=False).cast(pl.String)
    if values.dtype == pl.String:
        # A column of whole floats that reached the file as text, ids with nulls in pandas for instance.
        floats = values.str.contains(r"^-?\d+\.0$").all() and values.is_not_null().any()
        return values.str.strip_suffix(".0") if floats else values
    return values.cast(pl.String)


def as_label(table: Table, column: str | None, positive_from: float | None) -> pl.Series:
    """1 for a positive event, 0 for one that was only shown; all 1 without a label column."""
    if column is None:
        return pl.Series([1], dtype=pl.Int8).new_from_index(0, table.frame.height)
    require_values(table, column)
    values = table.frame[column]
    if not (values.dtype.is_numeric() or values.dtype == pl.Boolean):
        raise EventsError(
            table.source, f"column {column!r}: labels are {values.dtype}, expected numbers"
        )
    if positive_from is not None:
        return (values >= positive_from).cast(pl.Int8)
    other = ~values.cast(pl.Float64).is_in([0.0, 1.0])
    if other.any():
        raise EventsError(
            table.source,
            f"column {column!r}: {other.sum()} labels are neither 0 nor 1, first: "
            f"{example(values, other)}; ratings need data.positive_from",
        )
    return values.cast(pl.Int8)


def as_time_s(table: Table, column: str, unit: str) -> pl.Series:
    """Epoch seconds, rounded down."""
    require_values(table, column)
    values = table.frame[column]
    if values.dtype.is_integer():
        seconds = values.cast(pl.Int64) // UNITS_PER_S[unit]
    elif values.dtype.is_float():
        seconds = (values / UNITS_PER_S[unit]).floor().cast(pl.Int64)
    elif values.dtype == pl.String:
        seconds = _parse_times(table, column)
    elif values.dtype in (pl.Date, pl.Datetime):
        seconds = values.cast(pl.Datetime("us")).dt.epoch("s")
    else:
        raise EventsError(table.source, f"column {column!r}: {values.dtype} is no time")
    negative = seconds < 0
    if negative.any():
        raise EventsError(
            table.source,
            f"column {column!r}: {negative.sum()} times before 1970, first: {example(values, negative)}",
        )
    return seconds


def _parse_times(table: Table, column: str) -> pl.Series:
    """ISO 8601 texts; those without a zone are UTC."""
    values = table.frame[column]
    text = values.str.strip_chars().str.replace("Z$", "+00:00").str.replace("T", " ", literal=True)
    seconds = pl.Series([None], dtype=pl.Int64).new_from_index(0, len(values))
    for time_format in TIME_FORMATS:
        if not seconds.has_nulls():
            break
        parsed = text.str.to_datetime(time_format, time_unit="us", strict=False)
        seconds = seconds.fill_null(parsed.dt.epoch("s"))
    unparsed = seconds.is_null()
    if unparsed.any():
        raise EventsError(
            table.source,
            f"column {column!r}: {unparsed.sum()} times cannot be read, first: "
            f"{example(values, unparsed)}; expected ISO 8601 such as 2025-01-31T12:30:00Z, or numbers",
        )
    return seconds
