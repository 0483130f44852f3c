"""Raw tables -> a checked log with our column names, or an error that names file, column, count and an example.

Ids and field values become text here and nowhere else, so that a request's 5 and a file's 5.0 are the same value.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from builder.errors import EventsError
from builder.ingest.columns import as_label, as_text, as_time_s, example, refuse, require_values
from builder.ingest.sources.raw import RawLog, Table, require_columns
from builder.recipe.data import TIME_FIELDS, Data
from models.contract.errors import RequestError
from models.contract.vocabulary import check_id

logger = logging.getLogger(__name__)

DAY_S = 86_400


@dataclass(frozen=True)
class CleanLog:
    """A checked log.

    Attributes:
        events: user, item (text), ts_s (int64), label (int8), oracle (float32), then each context
            field (text) under `context_column`; sorted by user, then time, equal times as they came. Without times
            all are at 0.
        items: item, then the item fields (text), one row per item of the catalogue.
        users: user, then the fields of its profile (text); not every user of the events is in it.
        has_impressions: the labels are the log's own.
        has_oracle: the true probabilities are known; otherwise `oracle` is NaN.
    """

    events: pl.DataFrame
    items: pl.DataFrame
    users: pl.DataFrame
    has_impressions: bool
    has_oracle: bool


def context_column(name: str) -> str:
    """Column of a context field in `CleanLog.events`; a field may be called as one of our own columns."""
    return f"context:{name}"


def clean(raw: RawLog, data: Data, now_s: float) -> CleanLog:
    """Check everything.

    Args:
        raw: as a source found it.
        data: the recipe's section.
        now_s: epoch second; later times (plus a day for clocks) are refused.

    Raises:
        EventsError: a table cannot be read as what the recipe says it is.
    """
    events = _clean_events(raw, data, now_s)
    items = _clean_items(raw, data.item_fields, events)
    users = _clean_users(raw, data.profile_fields)
    has_impressions, has_oracle = raw.columns.label is not None, raw.oracle is not None
    return CleanLog(events, items, users, has_impressions, has_oracle)


def _clean_events(raw: RawLog, data: Data, now_s: float) -> pl.DataFrame:
    table, columns = raw.events, raw.columns
    context = [name for name in data.context_fields if name not in TIME_FIELDS]
    optional = [name for name in (columns.label, raw.oracle) if name is not None]
    of_items = data.item_fields if raw.items is None else ()
    times = [columns.time] if columns.time else []
    wanted = [columns.user, columns.item, *times, *optional, *context, *of_items]
    require_columns(table.source, table.frame.columns, wanted)
    if table.frame.is_empty():
        raise EventsError(table.source, "no events: the table is empty")
    series = {
        "user": _ids(table, columns.user, "user"),
        "item": _ids(table, columns.item, "item"),
        "ts_s": _times(table, columns.time, data.time_unit, now_s),
        "label": as_label(table, columns.label, data.positive_from, data.negative_to),
        "oracle": _oracle(table, raw.oracle),
    }
    series |= {context_column(name): as_text(table, name) for name in context}
    series |= {_item_column(name): as_text(table, name) for name in of_items}
    events = pl.DataFrame([values.alias(name) for name, values in series.items()])
    return _sort(table, _add_time_fields(_drop_neutral(table, events, data), data.context_fields))


def _drop_neutral(table: Table, events: pl.DataFrame, data: Data) -> pl.DataFrame:
    """Events that are neither positive nor negative are as if they had never been: not in a history, not counted."""
    if data.negative_to is None:
        return events
    kept = events.filter(pl.col("label").is_not_null())
    logger.info(
        "%s: dropped %d of %d events, with ratings between %g and %g",
        table.source, len(events) - len(kept), len(events), data.negative_to, data.positive_from,
    )  # fmt: skip
    if kept.is_empty():
        raise EventsError(
            table.source,
            "no events: all ratings are between data.negative_to and data.positive_from",
        )
    return kept


def _times(table: Table, column: str, unit: str, now_s: float) -> pl.Series:
    """Epoch seconds, none of them in the future; all 0 without a column."""
    if not column:
        return pl.Series([0], dtype=pl.Int64).new_from_index(0, table.frame.height)
    times = as_time_s(table, column, unit)
    what = f"times lie in the future (read as {unit} where they are numbers, see data.time_unit)"
    refuse(table, column, table.frame[column], times > now_s + DAY_S, what)
    return times


def _ids(table: Table, column: str, kind: str) -> pl.Series:
    """Ids as text, each one a possible id."""
    require_values(table, column)
    raw, ids = table.frame[column], as_text(table, column)
    if raw.dtype.is_float():
        refuse(table, column, raw, raw != raw.floor(), "ids have a fraction")
    if ids.str.contains(
        r"^-?\d+\.0$"
    ).all():  # pandas writes whole numbers so once a null was there
        ids = ids.str.strip_suffix(".0")
    for value in ids.unique():
        try:
            check_id(f"{kind} id", value)
        except RequestError as error:
            where = example(ids, ids == value)
            problem = f"column {column!r}: {error}; first: {where}"
            raise EventsError(table.source, problem) from error
    return ids


def _oracle(table: Table, column: str | None) -> pl.Series:
    if column is None:
        return pl.Series([float("nan")], dtype=pl.Float32).new_from_index(0, table.frame.height)
    return table.frame[column].cast(pl.Float32).fill_null(float("nan"))


def _add_time_fields(events: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """Hour 0-23 and weekday 0 (Monday) to 6, in UTC."""
    time = pl.from_epoch("ts_s", time_unit="s")
    derived = {"hour": time.dt.hour(), "weekday": time.dt.weekday() - 1}
    return events.with_columns(
        derived[name].cast(pl.String).alias(context_column(name))
        for name in names
        if name in derived
    )


def _sort(table: Table, events: pl.DataFrame) -> pl.DataFrame:
    if not events["ts_s"].is_sorted():
        logger.info("%s: events are not in the order of time; sorting", table.source)
    return events.sort("user", "ts_s", maintain_order=True)


def _clean_items(raw: RawLog, fields: Sequence[str], events: pl.DataFrame) -> pl.DataFrame:
    """The catalogue: rows of the item table, then items that only events know.

    Without a table the fields are columns of the events, and an item's first event counts: nothing later leaks back.
    """
    if raw.items is None:
        first = events.sort("ts_s", maintain_order=True).unique("item", keep="first").sort("item")
        return first.select("item", *(pl.col(_item_column(name)).alias(name) for name in fields))
    column = raw.columns.item_id or raw.columns.item
    listed = _profiles(raw.items, column, "item", fields)
    seen = events.select("item").unique().sort("item")
    unlisted = seen.join(listed.select("item"), on="item", how="anti", maintain_order="left")
    if len(unlisted):
        logger.info("%s: lacks %d items that the events have", raw.items.source, len(unlisted))
    return pl.concat([listed, unlisted], how="diagonal")


def _item_column(name: str) -> str:
    return f"item:{name}"


def _clean_users(raw: RawLog, fields: Sequence[str]) -> pl.DataFrame:
    if raw.users is not None:
        return _profiles(raw.users, raw.columns.user_id or raw.columns.user, "user", fields)
    if fields:
        raise EventsError(
            raw.events.source,
            f"there is no user table, but data.user_fields asks for {', '.join(fields)}",
        )
    return pl.DataFrame(schema={"user": pl.String})


def _profiles(table: Table, column: str, kind: str, fields: Sequence[str]) -> pl.DataFrame:
    require_columns(table.source, table.frame.columns, [column, *fields])
    ids = _ids(table, column, kind)
    refuse(table, column, ids, ids.is_duplicated(), "rows share their id with another")
    return pl.DataFrame([ids.alias(kind), *(as_text(table, name).alias(name) for name in fields)])
