"""Which column is the time, in which unit or format."""

import time
from dataclasses import dataclass

import polars as pl

from builder.errors import EventsError
from builder.ingest.times import DAY_S, ONLINE_FROM_S, TIME_FORMATS, UNITS_PER_S, as_date
from builder.propose.looks import Look, Seen
from builder.propose.words import is_named

FORMATS = tuple(
    f"{day} {clock}".strip()
    for day in ("%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%Y/%m/%d", "%d-%m-%Y", "%d-%b-%Y", "%Y%m%d")
    for clock in ("%H:%M:%S", "%H:%M", "%I:%M:%S %p", "%I:%M %p", "")
)
"""Formats of times that are not ISO 8601, in the order in which they are tried."""


@dataclass(frozen=True)
class Clock:
    """A column of times.

    Attributes:
        column: its name; "": the log has no times.
        unit: unit of numbers; None: they are no numbers.
        time_format: format of texts other than ISO 8601.
        why: what was seen, for the recipe's comment.
    """

    column: str
    unit: str | None = None
    time_format: str | None = None
    why: str = ""


def find_clock(seen: Seen, given: str | None) -> Clock:
    """The best column of times, or one without a name.

    Args:
        seen: the log.
        given: name of the column, if it is known; "": there is none.

    Raises:
        EventsError: a column is named like a time, and holds texts with numbers that are not read as times.
    """
    if given == "":
        return Clock("", why="no times, as you said")
    looks = [look for look in seen.looks if given in (None, look.name)]
    clocks = [
        (_score(look), clock) for look in looks if (clock := _as_clock(seen, look)) is not None
    ]
    if clocks:
        return max(clocks, key=lambda scored: scored[0])[1]
    for look in looks:
        is_number = look.kind in ("integer", "float")
        if is_number and look.low >= 0 and (given or is_named(look.name, "time")):
            numbers_are = f"numbers from {look.low:.15g} to {look.high:.15g} are no dates"
            why = f"{numbers_are}: read as seconds since the log's start"
            return Clock(look.name, "s", why=why)
        if look.kind == "text" and (given or is_named(look.name, "time")):
            _refuse_unread(seen, look)
    return Clock("", why="no column of times was found")


def _refuse_unread(seen: Seen, look: Look) -> None:
    """Raise EventsError for texts with a number in most of them: times that are written in some other way."""
    texts = seen.raw[look.name].drop_nulls()
    if int(texts.str.contains(r"\d{4}").sum()) > 0.5 * len(texts):
        raise EventsError(
            str(seen.path),
            f"column {look.name!r}: got times such as {texts[0]!r}, expected ISO 8601, a number, or one of the usual "
            'formats; write the recipe by hand, with data.time_format; or --time "" to go without times',
        )


def _score(look: Look) -> tuple[bool, float]:
    return is_named(look.name, "time"), look.distinct / max(1, look.rows)


def _as_clock(seen: Seen, look: Look) -> Clock | None:
    if look.kind == "time":
        zone = getattr(seen.sample.schema[look.name], "time_zone", None)
        return Clock(look.name, why=f"datetimes, {f'in {zone}' if zone else 'without a zone'}")
    if look.kind in ("integer", "float"):
        return _of_numbers(look)
    if look.kind == "text" and look.rows:
        return _of_texts(look.name, seen.raw[look.name].drop_nulls().head(2_000))
    return None


def _of_numbers(look: Look) -> Clock | None:
    for unit, per_s in UNITS_PER_S.items():
        low, high = look.low / per_s, look.high / per_s
        if low >= ONLINE_FROM_S and high <= time.time() + DAY_S:
            dates = f"{as_date(int(low))} to {as_date(int(high))}"
            return Clock(look.name, unit, why=f"numbers that are dates in {unit}: {dates} UTC")
    return None


def _of_texts(name: str, texts: pl.Series) -> Clock | None:
    iso = texts.str.strip_chars().str.strip_suffix("Z").str.replace("T", " ", literal=True)
    if any(_fits(iso, time_format) for time_format in TIME_FORMATS):
        return Clock(name, why="ISO 8601 texts")
    fitting = [time_format for time_format in FORMATS if _fits(texts, time_format)]
    if not fitting:
        return None
    others = "".join(f"; {other!r} fits as well" for other in fitting[1:])
    return Clock(name, None, fitting[0], why=f"texts such as {texts[0]!r}{others}")


def _fits(texts: pl.Series, time_format: str) -> bool:
    """Whether nearly all texts have the format: those that have not are refused by `ingest`, with their rows."""
    parsed = texts.str.to_datetime(time_format, time_unit="us", strict=False)
    return parsed.null_count() <= 0.01 * len(texts)
