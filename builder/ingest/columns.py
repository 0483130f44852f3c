"""Check and convert one column of a raw table."""

import polars as pl

from builder.errors import EventsError
from builder.ingest.sources.raw import Table
from models.contract.errors import RequestError, shown
from models.contract.vocabulary import MAX_ID_LENGTH, check_id

DAY_S = 86_400
UNITS_PER_S = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
TIME_FORMATS = (
    "%Y-%m-%d %H:%M:%S%.f%:z",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%d",
)
MAX_TEXT_LENGTH = 120
"""Characters of a display text. Titles of the Amazon logs reach 2,000; a table's column holds about 100."""
UNPRINTABLE = r"[\s\p{Cc}\p{Zl}\p{Zp}\u{200E}\u{200F}\u{202A}-\u{202E}\u{2066}-\u{2069}\u{FEFF}]+"
"""White space, control characters and marks that reverse the direction of writing in a terminal."""


def as_ids(table: Table, column: str) -> pl.Series:
    """Ids as text.

    Raises:
        EventsError: a value is missing, has a fraction, or cannot be an id (`check_id`).
    """
    require_values(table, column)
    raw, ids = table.frame[column], as_text(table, column)
    if raw.dtype.is_float():
        refuse(table, column, raw, raw != raw.floor(), "a fraction", "whole numbers as ids")
    # pandas writes whole numbers as 7.0 when the column had a null
    if ids.str.contains(r"^-?\d+\.0$").all():
        ids = ids.str.strip_suffix(".0")
    for value in ids.unique():
        if not _is_id(value):
            expected = f"1 to {MAX_ID_LENGTH} printable characters"
            refuse(table, column, ids, ids == value, "an invalid id", expected)
    return ids


def _is_id(value: str) -> bool:
    try:
        check_id("id", value)
    except RequestError:
        return False
    return True


def as_text(table: Table, column: str) -> pl.Series:
    """Values as Python's `str` writes them, whole floats without ".0"; nulls stay null.

    Raises:
        EventsError: the column holds lists, structs or bytes.
    """
    values = table.frame[column]
    if values.dtype.is_nested() or values.dtype == pl.Binary:
        problem = f"column {column!r}: got values of type {values.dtype}, expected a text or a number in every row"
        raise EventsError(table.source, problem)
    if values.dtype == pl.Boolean:
        return values.cast(pl.String).str.to_titlecase()
    if values.dtype.is_float() or values.dtype.is_decimal():
        values = values.cast(pl.Float64).fill_nan(None)
        is_whole = (values == values.floor()).all()
        return (values.cast(pl.Int64, strict=False) if is_whole else values).cast(pl.String)
    return values.cast(pl.String)


def as_display_text(table: Table, column: str) -> pl.Series:
    """Texts for people: one line each, at most `MAX_TEXT_LENGTH` characters; null where nothing is left.

    Raises:
        EventsError: the column holds lists, structs or bytes.
    """
    texts = as_text(table, column).str.replace_all(UNPRINTABLE, " ").str.strip_chars()
    is_long = texts.str.len_chars() > MAX_TEXT_LENGTH
    cut = texts.str.slice(0, MAX_TEXT_LENGTH - 1).str.strip_chars_end() + "…"
    return cut.zip_with(is_long.fill_null(value=False), texts).replace("", None)


def as_label(
    table: Table, column: str | None, positive_from: float | None, negative_to: float | None
) -> pl.Series:
    """1 for a positive event, 0 for one that was only shown, null for a rating between the limits.

    Without a column, every event is a positive.

    Raises:
        EventsError: a label is missing, is not a number, or is neither 0 nor 1 and there are no limits.
    """
    if column is None:
        return _repeat(pl.Series([1], dtype=pl.Int8), table)
    require_values(table, column)
    raw = table.frame[column]
    values = raw.cast(pl.Float64, strict=False)
    is_unread = values.is_null() | values.is_nan()
    refuse(table, column, raw, is_unread, "a label that is not a number", "a number")
    if positive_from is not None:
        labels = (values >= positive_from).cast(pl.Int8)
        if negative_to is None:
            return labels
        return labels.set((values > negative_to) & (values < positive_from), None)
    is_other = ~values.is_in([0.0, 1.0])
    expected = "0 or 1 (for ratings, set data.positive_from)"
    refuse(table, column, raw, is_other, "a label other than 0 and 1", expected)
    return values.cast(pl.Int8)


def as_number(table: Table, column: str) -> pl.Series:
    """Values as float64; null where a value is missing or NaN.

    Raises:
        EventsError: a value is not a number.
    """
    raw = table.frame[column]
    if raw.dtype.is_nested() or raw.dtype.is_temporal():
        problem = f"column {column!r}: got values of type {raw.dtype}, expected numbers"
        raise EventsError(table.source, problem)
    values = raw.cast(pl.Float64, strict=False)
    is_unread = values.is_null() & raw.is_not_null()
    refuse(table, column, raw, is_unread, "a value that is not a number", "a number")
    return values.fill_nan(None)


def as_probability(table: Table, column: str | None) -> pl.Series:
    """A column of probabilities, NaN where unknown; all NaN without a column."""
    if column is None:
        return _repeat(pl.Series([float("nan")], dtype=pl.Float32), table)
    return table.frame[column].cast(pl.Float32).fill_null(float("nan"))


def as_time_s(table: Table, column: str, unit: str, now_s: float) -> pl.Series:
    """Epoch seconds, rounded down; all 0 where `column` is "".

    Args:
        table: the events.
        column: column of the times; "": the log has none.
        unit: unit of times that are numbers.
        now_s: current time; a day more is allowed for clocks that run ahead.

    Raises:
        EventsError: a value is missing, cannot be read as a time, lies before 1970 or in the future.
    """
    if not column:
        return _repeat(pl.Series([0], dtype=pl.Int64), table)
    require_values(table, column)
    values = table.frame[column]
    seconds = _seconds(table, column, UNITS_PER_S[unit])
    iso = "ISO 8601 such as 2025-01-31T12:30:00Z, or a number"
    refuse(table, column, values, seconds.is_null(), "an unreadable time", iso)
    refuse(table, column, values, seconds < 0, "a time before 1970", "a later time")
    past = f"a past time (numbers are read as {unit}, see data.time_unit)"
    refuse(table, column, values, seconds > now_s + DAY_S, "a time in the future", past)
    return seconds


def _seconds(table: Table, column: str, per_s: int) -> pl.Series:
    """Epoch seconds; null where a value cannot be read."""
    values = table.frame[column]
    if values.dtype.is_integer():
        return values.cast(pl.Int64) // per_s
    if values.dtype.is_float():
        return (values / per_s).floor().cast(pl.Int64, strict=False)
    if values.dtype in (pl.Date, pl.Datetime):
        return values.cast(pl.Datetime("us")).dt.epoch("s")
    if values.dtype == pl.String:
        return _parse_times(values, per_s)
    expected = "expected datetimes, dates, numbers or ISO 8601 texts"
    problem = f"column {column!r}: got values of type {values.dtype}, {expected}"
    raise EventsError(table.source, problem)


def _parse_times(values: pl.Series, per_s: int) -> pl.Series:
    """Epoch seconds of numbers or ISO 8601 as text (a CSV has texts only); null where a text is neither."""
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


def _repeat(value: pl.Series, table: Table) -> pl.Series:
    """One value for every row."""
    return value.new_from_index(0, table.frame.height)


def require_values(table: Table, column: str) -> None:
    """Raise EventsError if the column has nulls or NaN."""
    values = table.frame[column]
    is_missing = values.is_null()
    if values.dtype.is_float():
        is_missing = is_missing | values.is_nan().fill_null(value=False)
    refuse(table, column, values, is_missing, "no value", "a value in every row")


def refuse(
    table: Table, column: str, values: pl.Series, is_bad: pl.Series, got: str, expected: str
) -> None:
    """Raise EventsError if any row is bad; the error counts them and shows the first.

    Args:
        table: the table with the column.
        column: its name.
        values: the values to show in the error.
        is_bad: rows to refuse; null counts as good.
        got: what a bad row holds.
        expected: what a row should hold.
    """
    if is_bad.any():
        row = is_bad.fill_null(value=False).arg_max() or 0
        first = f"first: {shown(values[row])} in row {row + 1}"
        rows = f"{is_bad.sum()} of {len(values)} rows ({first})"
        raise EventsError(
            table.source, f"column {column!r}: got {got} in {rows}, expected {expected}"
        )
