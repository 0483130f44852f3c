"""The times of a log: epoch seconds of a column, and what is odd about them.

A wrong unit gives no error by itself: sixty days in seconds, read as milliseconds, are an hour and a half of January
1970. A missing time that became 0 moves the log's start by fifty years.
"""

import logging
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from builder.errors import EventsError
from builder.ingest.columns import refuse, repeat, require_values
from builder.ingest.sources.raw import Table

logger = logging.getLogger(__name__)

DAY_S = 86_400
YEAR_S = 365 * DAY_S
ONLINE_FROM_S = 631_152_000
"""1 January 1990: no log of online events is older."""
UNITS_PER_S = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
TIME_FORMATS = (
    "%Y-%m-%d %H:%M:%S%.f%:z",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%d",
)
FEW = 1_000
"""One in so many events, at least one: as many may lie apart from the others and are reported."""


def as_time_s(
    table: Table,
    column: str,
    unit: str,
    now_s: float,
    time_format: str | None = None,
    zone: str | None = None,
) -> pl.Series:
    """Epoch seconds, rounded down; all 0 where `column` is "".

    Args:
        table: the events.
        column: column of the times; "": the log has none.
        unit: unit of times that are numbers.
        now_s: current time; a day more is allowed for clocks that run ahead.
        time_format: chrono's format of times that are texts; None: numbers or ISO 8601.
        zone: zone of times without an offset; None: UTC.

    Raises:
        EventsError: a value is missing, cannot be read as a time, lies before 1970, decades before the others, or in
            the future; or all of them fit another unit only.
    """
    if not column:
        return repeat(pl.Series([0], dtype=pl.Int64), table)
    require_values(table, column)
    values = table.frame[column]
    seconds = _seconds(table, column, UNITS_PER_S[unit], time_format, zone)
    iso = "ISO 8601 such as 2025-01-31T12:30:00Z, or a number (other texts: data.time_format)"
    form = iso if time_format is None else f"a text such as data.time_format = {time_format!r}"
    refuse(table, column, values, seconds.is_null(), "an unreadable time", form)
    _refuse_other_unit(table, column, seconds, unit, now_s)
    refuse(table, column, values, seconds < 0, "a time before 1970", "a later time")
    past = f"a past time (numbers are read as {unit}, see data.time_unit)"
    refuse(table, column, values, seconds > now_s + DAY_S, "a time in the future", past)
    is_lost = _before_the_era(seconds)
    others = "times of the others' era; is a missing time written as 0?"
    refuse(table, column, values, is_lost, "a time decades before the others", others)
    return seconds


def _refuse_other_unit(
    table: Table, column: str, seconds: pl.Series, unit: str, now_s: float
) -> None:
    """Raise EventsError if all times are out of their era as they are read, and in it in another unit."""
    if _bound(seconds.max()) >= ONLINE_FROM_S and _bound(seconds.min()) <= now_s + DAY_S:
        return  # some are in their era
    numbers = table.frame[column]
    if numbers.dtype == pl.String:
        numbers = numbers.cast(pl.Float64, strict=False)
    if not numbers.dtype.is_numeric() or numbers.has_nulls():
        return
    for other, per_s in UNITS_PER_S.items():
        low, high = (_bound(bound) / per_s for bound in (numbers.min(), numbers.max()))
        if other != unit and low >= ONLINE_FROM_S and high <= now_s + DAY_S:
            raise EventsError(
                table.source,
                f"column {column!r}: got times that are no dates of online events when they are read as {unit}, "
                f'expected data.time_unit = "{other}": then they are from {as_date(int(low))} to {as_date(int(high))}',
            )


def _bound(value: Any) -> float:
    """A smallest or largest value as a float; polars types it as any Python value."""
    return float(value)


def _before_the_era(seconds: pl.Series) -> pl.Series:
    """The rows before 1990, if they are the fewer ones and more than a year before all others."""
    is_early = seconds < ONLINE_FROM_S
    early, late = seconds.filter(is_early), seconds.filter(~is_early)
    if early.is_empty() or len(early) >= len(late):
        return is_early & False
    is_apart = _bound(late.min()) - _bound(early.max()) > YEAR_S
    return is_early & is_apart


def report_times(source: str, ts_s: NDArray[np.int64]) -> None:
    """Log the dates of the first and the last event, and warn of what is probably wrong with them."""
    times = np.sort(ts_s)
    first, last = as_date(int(times[0])), as_date(int(times[-1]))
    span_s = int(times[-1] - times[0])
    logger.info("%s: events from %s to %s (%.1f days)", source, first, last, span_s / DAY_S)
    if times[-1] < ONLINE_FROM_S:
        template = "%s: all times are before 1990 (%s to %s); is data.time_unit right?"
        logger.warning(template, source, first, last)
    if span_s < DAY_S:
        template = "%s: all events are within %.3f days (%s to %s); is data.time_unit right?"
        logger.warning(template, source, span_s / DAY_S, first, last)
    for few, gap_s, side in _apart(times):
        template = (
            "%s: %d of %d events are %.0f days %s all others (%s to %s); are their times right?"
        )
        logger.warning(
            template,
            *(source, len(few), len(times), gap_s / DAY_S, side),
            *(as_date(int(few[0])), as_date(int(few[-1]))),
        )


def _apart(times: NDArray[np.int64]) -> list[tuple[NDArray[np.int64], int, str]]:
    """Few events before or after a gap that is longer than the span of all others, and than 30 days.

    Args:
        times: epoch seconds, rising.
    """
    most, gaps = max(1, len(times) // FEW), np.diff(times)
    if len(times) < 3:
        return []
    at = int(gaps[:most].argmax())
    back = len(gaps) - most + int(gaps[-most:].argmax())
    found = []
    if int(gaps[at]) > max(30 * DAY_S, int(times[-1] - times[at + 1])):
        found.append((times[: at + 1], int(gaps[at]), "before"))
    if int(gaps[back]) > max(30 * DAY_S, int(times[back] - times[0])):
        found.append((times[back + 1 :], int(gaps[back]), "after"))
    return found


def as_date(second: int) -> str:
    """Minute of an epoch second in UTC, such as 2025-01-31 12:30."""
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%d %H:%M")


def _seconds(
    table: Table, column: str, per_s: int, time_format: str | None, zone: str | None
) -> pl.Series:
    """Epoch seconds; null where a value cannot be read."""
    values = table.frame[column]
    if values.dtype.is_integer():
        return values.cast(pl.Int64, strict=False) // per_s
    if values.dtype.is_float():
        return (values / per_s).floor().cast(pl.Int64, strict=False)
    if values.dtype == pl.Date:
        values = values.cast(pl.Datetime("us"))
    if values.dtype == pl.Datetime:
        return epoch_s(values, zone)
    if values.dtype == pl.String and time_format is not None:
        return epoch_s(_parsed(values.str.strip_chars(), time_format), zone)
    if values.dtype == pl.String:
        return _parse_times(values, per_s, zone)
    expected = "expected datetimes, dates, numbers or ISO 8601 texts"
    problem = f"column {column!r}: got values of type {values.dtype}, {expected}"
    raise EventsError(table.source, problem)


def _parse_times(values: pl.Series, per_s: int, zone: str | None) -> pl.Series:
    """Epoch seconds of numbers or ISO 8601 as text (a CSV has texts only); null where a text is neither."""
    seconds = values.cast(pl.Int64, strict=False) // per_s
    if seconds.has_nulls():
        fractions = (values.cast(pl.Float64, strict=False) / per_s).floor()
        seconds = seconds.fill_null(fractions.cast(pl.Int64, strict=False))
    text = values.str.strip_chars()
    is_utc = text.str.ends_with("Z")
    text = text.str.strip_suffix("Z").str.replace("T", " ", literal=True)
    for time_format in TIME_FORMATS:
        if seconds.has_nulls():
            parsed = _parsed(text, time_format)
            read = epoch_s(parsed, None).zip_with(is_utc, epoch_s(parsed, zone))
            seconds = seconds.fill_null(read)
    return seconds


def _parsed(texts: pl.Series, time_format: str) -> pl.Series:
    """Datetimes of texts in one format; null where a text has another one."""
    return texts.str.to_datetime(time_format, time_unit="us", strict=False)


def epoch_s(values: pl.Series, zone: str | None) -> pl.Series:
    """Epoch seconds of datetimes, rounded down.

    Args:
        values: datetimes; those with a zone of their own keep it.
        zone: zone of the others; None: UTC. Of a local hour that comes twice the first is taken, and one that a change
            of the clocks leaves out is read as an hour later.
    """
    own_zone = getattr(values.dtype, "time_zone", None)
    if zone is None or own_zone is not None:
        return values.dt.epoch("s")
    local = values.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    if local.null_count() > values.null_count():
        later = values.dt.offset_by("1h")
        later = later.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
        local = local.fill_null(later)
    return local.dt.epoch("s")
