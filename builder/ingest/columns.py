"""Checks and conversions of a single column of a raw table."""

import polars as pl

from builder.errors import EventsError
from builder.ingest.sources.raw import Table

UNITS_PER_S = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
TIME_FORMATS = (
    "%Y-%m-%d %H:%M:%S%.f%:z",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%d",
)


def require_values(table: Table, column: str) -> None:
    """Raise EventsError if the column has nulls or NaN."""
    values = table.frame[column]
    empty = values.is_null()
    if values.dtype.is_float():
        empty = empty | values.is_nan().fill_null(value=False)
    refuse(table, column, values, empty, f"of {len(values)} values are missing")


def example(values: pl.Series, chosen: pl.Series) -> str:
    """The first chosen value and its row, counted from 1 without the header."""
    row = chosen.fill_null(value=False).arg_max() or 0
    return f"{values[row]!r} in row {row + 1}"


def as_text(table: Table, column: str) -> pl.Series:
    """Values as Python's `str` writes them, whole floats without ".0"; nulls stay.

    Raises:
        EventsError: the values are lists or the like.
    """
    values = table.frame[column]
    if values.dtype.is_nested() or values.dtype == pl.Binary:
        raise EventsError(
            table.source, f"column {column!r} holds {values.dtype}, expected one value"
        )
    if values.dtype == pl.Boolean:
        return values.cast(pl.String).str.to_titlecase()
    if values.dtype.is_float() or values.dtype.is_decimal():
        values = values.cast(pl.Float64).fill_nan(None)
        whole = (values == values.floor()).all()
        return (values.cast(pl.Int64, strict=False) if whole else values).cast(pl.String)
    return values.cast(pl.String)


def as_label(
    table: Table, column: str | None, positive_from: float | None, negative_to: float | None
) -> pl.Series:
    """1 for a positive event, 0 for one that was only shown, null between the two limits; all 1 without a column."""
    if column is None:
        return pl.Series([1], dtype=pl.Int8).new_from_index(0, table.frame.height)
    require_values(table, column)
    raw = table.frame[column]
    values = raw.cast(pl.Float64, strict=False)
    refuse(table, column, raw, values.is_null() | values.is_nan(), "labels are no numbers")
    if positive_from is not None:
        labels = (values >= positive_from).cast(pl.Int8)
        if negative_to is None:
            return labels
        return labels.set((values > negative_to) & (values < positive_from), None)
    other = ~values.is_in([0.0, 1.0])
    refuse(
        table, column, raw, other, "labels are neither 0 nor 1 (ratings need data.positive_from)"
    )
    return values.cast(pl.Int8)


def as_time_s(table: Table, column: str, unit: str) -> pl.Series:
    """Epoch seconds, rounded down.

    Raises:
        EventsError: a value is missing, cannot be read as a time, or lies before 1970.
    """
    require_values(table, column)
    values, per_s = table.frame[column], UNITS_PER_S[unit]
    if values.dtype.is_integer():
        seconds = values.cast(pl.Int64) // per_s
    elif values.dtype.is_float():
        seconds = (values / per_s).floor().cast(pl.Int64, strict=False)
    elif values.dtype in (pl.Date, pl.Datetime):
        seconds = values.cast(pl.Datetime("us")).dt.epoch("s")
    elif values.dtype == pl.String:
        seconds = _parse_times(values, per_s)
    else:
        raise EventsError(table.source, f"column {column!r}: {values.dtype} is no time")
    unread = "times cannot be read (expected ISO 8601 such as 2025-01-31T12:30:00Z, or numbers)"
    refuse(table, column, values, seconds.is_null(), unread)
    refuse(table, column, values, seconds < 0, "times lie before 1970")
    return seconds


def _parse_times(values: pl.Series, per_s: int) -> pl.Series:
    """Epoch seconds of numbers or ISO 8601 as text (a CSV has texts only); null where it is neither."""
    seconds = values.cast(pl.Int64, strict=False) // per_s
    if seconds.has_nulls():
        fractions = (values.cast(pl.Float64, strict=False) / per_s).floor()
        seconds = seconds.fill_null(fractions.cast(pl.Int64, strict=False))
    text = values.str.strip_chars().str.strip_suffix("Z").str.replace("T", " ", literal=True)
    for time_format in TIME_FORMATS:
        if seconds.has_nulls():
            parsed = text.str.to_datetime(time_format, time_unit="us", strict=False)
            seconds = seconds.fill_null(parsed.dt.epoch("s"))
    return seconds


def refuse(table: Table, column: str, values: pl.Series, bad: pl.Series, what: str) -> None:
    """Raise EventsError if any value is `bad`: how many, and the first with its row."""
    if bad.any():
        raise EventsError(
            table.source, f"column {column!r}: {bad.sum()} {what}, first: {example(values, bad)}"
        )
