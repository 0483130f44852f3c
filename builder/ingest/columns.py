"""Check and convert one column of a raw table."""

import json
import re

import polars as pl

from builder.errors import EventsError
from builder.ingest.sources.raw import Table
from models.contract.errors import RequestError, shown
from models.contract.vocabulary import MAX_ID_LENGTH, check_id

MAX_TEXT_LENGTH = 120
"""Characters of a display text. Titles of the Amazon logs reach 2,000; a table's column holds about 100."""
EXACT_BELOW = {32: 2.0**24, 64: 2.0**53}
"""Bits of a float -> the number from which on neighbouring whole numbers are one float."""
INT64_BELOW = 2.0**63
LOST_DIGITS = r"^-?\d(\.\d+)?[eE]\+\d+$"
"""A whole number as Python and pandas write long floats, such as 1.2345678901234567e+18."""
UNPRINTABLE = r"[\s\p{Cc}\p{Zl}\p{Zp}\u{200E}\u{200F}\u{202A}-\u{202E}\u{2066}-\u{2069}\u{FEFF}]+"
"""White space, control characters and marks that reverse the direction of writing in a terminal."""


def as_ids(table: Table, column: str) -> pl.Series:
    """Ids as text.

    Raises:
        EventsError: a value is missing, has a fraction, may have been rounded, or cannot be an id (`check_id`).
    """
    require_values(table, column)
    raw, ids = table.frame[column], as_text(table, column)
    if raw.dtype.is_float():
        refuse(table, column, raw, raw != raw.floor(), "a fraction", "whole numbers as ids")
        _refuse_rounded(
            table, column, raw, raw.abs() >= EXACT_BELOW[32 if raw.dtype == pl.Float32 else 64]
        )
    # pandas writes whole numbers as 7.0 when the column had a null
    if ids.str.contains(r"^-?\d+\.0$").all():
        ids = ids.str.strip_suffix(".0")
        _refuse_rounded(table, column, raw, ids.cast(pl.Float64).abs() >= EXACT_BELOW[64])
    if raw.dtype == pl.String:
        _refuse_rounded(table, column, raw, ids.str.contains(LOST_DIGITS))
    for value in ids.unique():
        if not _is_id(value):
            expected = f"1 to {MAX_ID_LENGTH} printable characters"
            refuse(table, column, ids, ids == value, "an invalid id", expected)
    return ids


def _refuse_rounded(table: Table, column: str, raw: pl.Series, is_rounded: pl.Series) -> None:
    got = "an id that was rounded to a float, so that different ids may have become one,"
    refuse(table, column, raw, is_rounded, got, "integers or texts as ids of so many digits")


def _is_id(value: str) -> bool:
    try:
        check_id("id", value)
    except RequestError:
        return False
    return True


def as_text(table: Table, column: str) -> pl.Series:
    """Values as Python's `str` writes them, whole floats without ".0"; nulls stay null.

    Raises:
        EventsError: the column holds lists, structs, bytes or durations.
    """
    values = table.frame[column]
    if values.dtype.is_nested() or values.dtype in (pl.Binary, pl.Duration):
        problem = f"column {column!r}: got values of type {values.dtype}, expected a text or a number in every row"
        raise EventsError(table.source, problem)
    if values.dtype == pl.Boolean:
        return values.cast(pl.String).str.to_titlecase()
    if values.dtype.is_decimal():
        # Not by way of a float, which would round long ids.
        return values.cast(pl.String).str.replace(r"(\.\d*?)0+$", "$1").str.strip_suffix(".")
    if values.dtype.is_float():
        values = values.cast(pl.Float64).fill_nan(None)
        is_whole = ((values == values.floor()) & (values.abs() < INT64_BELOW)).all()
        return (values.cast(pl.Int64) if is_whole else values).cast(pl.String)
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
        return repeat(pl.Series([1], dtype=pl.Int8), table)
    require_values(table, column)
    raw, values = table.frame[column], _numbers(table, column)
    is_unread = values.is_null() | ~values.is_finite()
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
    raw, values = table.frame[column], _numbers(table, column)
    is_unread = values.is_null() & raw.is_not_null()
    refuse(table, column, raw, is_unread, "a value that is not a number", "a number")
    return values.fill_nan(None)


def _numbers(table: Table, column: str) -> pl.Series:
    """Values as float64; null where a value cannot be read as a number."""
    values = table.frame[column]
    if values.dtype in (pl.Categorical, pl.Enum):
        values = values.cast(pl.String)
    if not (values.dtype.is_numeric() or values.dtype in (pl.Boolean, pl.String, pl.Null)):
        problem = f"column {column!r}: got values of type {values.dtype}, expected numbers"
        raise EventsError(table.source, problem)
    return values.cast(pl.Float64, strict=False)


def as_probability(table: Table, column: str | None) -> pl.Series:
    """A column of probabilities, NaN where unknown; all NaN without a column."""
    if column is None:
        return repeat(pl.Series([float("nan")], dtype=pl.Float32), table)
    return table.frame[column].cast(pl.Float32).fill_null(float("nan"))


def repeat(value: pl.Series, table: Table) -> pl.Series:
    """One value for every row."""
    return value.new_from_index(0, table.frame.height)


def require_values(table: Table, column: str) -> None:
    """Raise EventsError if the column has nulls or NaN."""
    values = table.frame[column]
    expected = (
        f'a value in every row (data.nulls = {{{toml_key(column)} = "drop"}} leaves such rows out)'
    )
    refuse(table, column, values, missing(values), "no value", expected)


def missing(values: pl.Series) -> pl.Series:
    """Rows without a value: null or NaN."""
    if values.dtype.is_float():
        return values.is_null() | values.is_nan().fill_null(value=False)
    return values.is_null()


def toml_key(name: str) -> str:
    """A name as a key in TOML: quoted where it must be."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name, ensure_ascii=False)


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
