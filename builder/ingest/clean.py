"""RawLog -> CleanLog: checked tables under our own column names.

Ids and field values become text here and nowhere else, so that a request's 5 and a file's 5.0 are the same value.
Errors name the file, the column, the number of rows and an example.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from builder.errors import EventsError
from builder.ingest.clean_pools import CleanPools, clean_pools
from builder.ingest.columns import (
    as_display_text,
    as_ids,
    as_label,
    as_number,
    as_probability,
    as_text,
    refuse,
)
from builder.ingest.drop import (
    QUANTITY,
    drop_forgotten,
    drop_neutral,
    drop_repeats,
    drop_returns,
)
from builder.ingest.event_kinds import (
    CANCELS,
    TARGET,
    WEIGHT,
    as_weight,
    drop_kinds,
    kind_columns,
    settle_returns,
)
from builder.ingest.nulls import settle_nulls
from builder.ingest.sources.raw import RawLog, Table, require_columns
from builder.ingest.times import as_time_s
from builder.recipe.data import TIME_FIELDS, Columns, Data
from models.live.tombstones import Tombstones

logger = logging.getLogger(__name__)

TEXT = "text"
POOL = "pool"
NOBODY = Tombstones()


@dataclass(frozen=True)
class CleanLog:
    """A checked log.

    Attributes:
        events: user, item (text), ts_s (int64), label (int8), oracle (float32), then each context
            field (text) under `context_column`; sorted by user, then time; events of equal times keep their order.
            In a log without times, every time is 0. With kinds of events also `TARGET` (bool), and with weights
            `WEIGHT` (float32).
        items: item, then the item fields (text); one row per catalogue item.
        users: user, then the fields of the user table (text); may lack users of the events.
        item_texts: display text of each row of `items`, null where an item has none. None: the log has no texts.
        has_impressions: the labels come from the log.
        has_oracle: the true probabilities are known; otherwise `oracle` is NaN.
        pools: candidates of each request; then `events` has a column `POOL` with indices of pools, and events of equal
            times are sorted by it. None: the log has no pools.
    """

    events: pl.DataFrame
    items: pl.DataFrame
    users: pl.DataFrame
    item_texts: pl.Series | None
    has_impressions: bool
    has_oracle: bool
    pools: CleanPools | None = None

    @property
    def times_s(self) -> NDArray[np.int64]:
        """Epoch second of each event, [E]."""
        return self.events["ts_s"].to_numpy()

    def target_times_s(self, last_only: bool) -> NDArray[np.int64]:
        """Times of the events that are targets: all of them, those whose kind says so, or each user's latest."""
        if not last_only:
            events = self.events
            if TARGET in events.columns and events[TARGET].any():
                events = events.filter(pl.col(TARGET))
            return events["ts_s"].to_numpy()
        ends = np.cumsum(self.events["user"].rle().struct.field("len").to_numpy())
        return np.asarray(self.times_s[ends - 1])


def context_column(name: str) -> str:
    """Column of a context field in `CleanLog.events`; the prefix keeps it apart from our own columns."""
    return f"context:{name}"


def clean(raw: RawLog, data: Data, now_s: float, tombstones: Tombstones = NOBODY) -> CleanLog:
    """Check every table and convert its columns.

    Args:
        raw: the tables as a source found them.
        data: the recipe's section.
        now_s: current time, epoch seconds; events more than a day later are refused.
        tombstones: users whose events are dropped.

    Raises:
        EventsError: a table does not hold what the recipe says.
    """
    raw, pools = settle_nulls(raw, data.nulls), None
    if raw.pools is not None:
        pools = clean_pools(raw.pools, raw.events, data.candidate_fields)
    events = _clean_events(raw, data, now_s, pools, tombstones)
    items, item_texts = _clean_items(raw, data.item_fields, events)
    return CleanLog(
        events,
        items,
        _clean_users(raw, data.profile_fields),
        item_texts,
        has_impressions=raw.columns.label is not None
        or bool(data.event_kinds and data.event_kinds.negative),
        has_oracle=raw.oracle is not None,
        pools=pools,
    )


def _clean_events(
    raw: RawLog, data: Data, now_s: float, pools: CleanPools | None, tombstones: Tombstones
) -> pl.DataFrame:
    table, columns = raw.events, raw.columns
    context = [name for name in data.context_fields if name not in TIME_FIELDS]
    item_fields = data.item_fields if raw.items is None else ()
    item_text = columns.item_text if raw.items is None else None
    kind = data.event_kinds.column if data.event_kinds else None
    optional = (columns.time or None, columns.label, raw.oracle, item_text, columns.quantity, kind)
    own = [columns.user, columns.item, *(name for name in optional if name is not None)]
    require_columns(table.source, table.frame.columns, [*own, *context, *item_fields])
    if table.frame.is_empty():
        raise EventsError(table.source, "events: got an empty table, expected at least one event")
    series = {
        "user": as_ids(table, columns.user),
        "item": as_ids(table, columns.item),
        "ts_s": as_time_s(
            table, columns.time, data.time_unit, now_s, data.time_format, data.time_zone
        ),
        **_labels(table, data, columns),
        "oracle": as_probability(table, raw.oracle),
    }
    if columns.quantity is not None:
        series[QUANTITY] = as_number(table, columns.quantity)
    if pools is not None:
        series[POOL] = pools.of_events
    if item_text is not None:
        series[TEXT] = as_display_text(table, item_text)
    series |= {context_column(name): as_text(table, name) for name in context}
    series |= {_item_column(name): as_text(table, name) for name in item_fields}
    events = pl.DataFrame([values.alias(name) for name, values in series.items()])
    events = drop_forgotten(table.source, events, tombstones)
    return _settled(table.source, events, data, keeps_returns=columns.quantity is None)


def _settled(source: str, events: pl.DataFrame, data: Data, *, keeps_returns: bool) -> pl.DataFrame:
    """The events in order, without those that the recipe leaves out."""
    events = drop_neutral(source, events, data)
    if data.event_kinds is not None:
        events = drop_kinds(source, events)
    if not (keeps_returns or data.cancel_returns):
        events = drop_returns(source, events)
    events = _sort(source, _add_time_fields(events, data.context_fields))
    if CANCELS in events.columns or QUANTITY in events.columns:
        events = settle_returns(source, events)
    if TARGET in events.columns:  # a slate is a range of events
        events = events.sort("user", "ts_s", TARGET, maintain_order=True)
    return drop_repeats(source, events) if data.drop_repeats else events


def _labels(table: Table, data: Data, columns: Columns) -> dict[str, pl.Series]:
    """Label of each event, and what its kind says beside it."""
    if data.event_kinds is None:
        label = as_label(table, columns.label, data.positive_from, data.negative_to)
        series = {"label": label}
    else:
        series = kind_columns(table, data.event_kinds)
    if columns.weight is not None:
        require_columns(table.source, table.frame.columns, [columns.weight])
        weight = as_weight(table, columns.weight)
        series[WEIGHT] = weight * series[WEIGHT] if WEIGHT in series else weight
    return series


def _add_time_fields(events: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """Add the context fields hour (0 to 23) and weekday (0, Monday, to 6), in UTC, where the recipe lists them."""
    time = pl.from_epoch("ts_s", time_unit="s")
    derived = {"hour": time.dt.hour(), "weekday": time.dt.weekday() - 1}
    return events.with_columns(
        derived[name].cast(pl.String).alias(context_column(name))
        for name in names
        if name in derived
    )


def _sort(source: str, events: pl.DataFrame) -> pl.DataFrame:
    if not events["ts_s"].is_sorted():
        logger.info("%s: events are not sorted by time; sorting them", source)
    # A slate has one pool and must be a range of events.
    by = ["user", "ts_s", *([POOL] if POOL in events.columns else [])]
    return events.sort(by, maintain_order=True)


def _clean_items(
    raw: RawLog, fields: Sequence[str], events: pl.DataFrame
) -> tuple[pl.DataFrame, pl.Series | None]:
    """The catalogue and its display texts: rows of the item table, then items that only the events have."""
    if raw.items is None:
        return _items_of_events(events, fields)
    columns = raw.columns
    listed = _profiles(raw.items, columns.item_id or columns.item, "item", fields)
    seen = events.select("item").unique().sort("item")
    unlisted = seen.join(listed.select("item"), on="item", how="anti", maintain_order="left")
    if len(unlisted):
        logger.info("%s: lacks %d items that the events have", raw.items.source, len(unlisted))
    items = pl.concat([listed, unlisted], how="diagonal")
    if columns.item_text is None:
        return items, None
    require_columns(raw.items.source, raw.items.frame.columns, [columns.item_text])
    texts = as_display_text(raw.items, columns.item_text)
    return items, texts.extend_constant(None, len(unlisted))


def _items_of_events(
    events: pl.DataFrame, fields: Sequence[str]
) -> tuple[pl.DataFrame, pl.Series | None]:
    """The catalogue of a log without an item table.

    An item's fields are those of its first event: no later event leaks back. Its display text, which no model reads,
    is the first that any of its events has.
    """
    by_time = events.sort("ts_s", maintain_order=True)
    first = by_time.unique("item", keep="first").sort("item")
    items = first.select("item", *(pl.col(_item_column(name)).alias(name) for name in fields))
    if TEXT not in events.columns:
        return items, None
    texts = by_time.select("item", TEXT).drop_nulls().unique("item", keep="first")
    return items, items.select("item").join(texts, on="item", how="left", maintain_order="left")[
        TEXT
    ]


def _item_column(name: str) -> str:
    return f"item:{name}"


def _clean_users(raw: RawLog, fields: Sequence[str]) -> pl.DataFrame:
    if raw.users is not None:
        return _profiles(raw.users, raw.columns.user_id or raw.columns.user, "user", fields)
    if fields:
        names = ", ".join(fields)
        raise EventsError(
            raw.events.source, f"data.user_fields: got {names}, expected a log with a user table"
        )
    return pl.DataFrame(schema={"user": pl.String})


def _profiles(table: Table, column: str, kind: str, fields: Sequence[str]) -> pl.DataFrame:
    """Ids and fields of a table with one row per item or user."""
    require_columns(table.source, table.frame.columns, [column, *fields])
    ids = as_ids(table, column)
    refuse(table, column, ids, ids.is_duplicated(), "a repeated id", f"one row per {kind}")
    return pl.DataFrame([ids.alias(kind), *(as_text(table, name).alias(name) for name in fields)])
