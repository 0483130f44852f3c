"""Kinds of events: which are positives, shown only, or in histories alone, and what returns cancel."""

import logging
from collections.abc import Iterable

import polars as pl

from builder.errors import EventsError
from builder.ingest.columns import as_number, as_text, refuse, require_values
from builder.ingest.drop import QUANTITY
from builder.ingest.sources.raw import Table
from builder.recipe.event_kinds import EventKinds

logger = logging.getLogger(__name__)

CANCELS, TARGET, WEIGHT = "cancels", "is_target", "weight"


def kind_columns(table: Table, kinds: EventKinds) -> dict[str, pl.Series]:
    """Label (int8; null: the event is left out), `CANCELS`, `TARGET` (booleans) and `WEIGHT` (float32) of each event.

    Raises:
        EventsError: an event has no kind, or one that the recipe does not name.
    """
    require_values(table, kinds.column)
    values = as_text(table, kinds.column)
    _require_known(table, values, kinds)
    counts = ", ".join(
        f"{name}: {number:,}" for name, number in values.value_counts(sort=True).iter_rows()
    )
    logger.info("%s: kinds of events: %s", table.source, counts)
    labels = values.is_in(list(kinds.negative)).not_().cast(pl.Int8)
    return {
        "label": labels.set(values.is_in(list(kinds.drop)), None),
        CANCELS: values.is_in(list(kinds.cancel)),
        TARGET: values.is_in([*kinds.positive, *kinds.negative]),
        WEIGHT: values.replace_strict(kinds.weights, default=1.0, return_dtype=pl.Float32)
        if kinds.weights
        else pl.repeat(1.0, len(values), dtype=pl.Float32, eager=True),
    }


def _require_known(table: Table, values: pl.Series, kinds: EventKinds) -> None:
    known = kinds.known()
    others = values.filter(~values.is_in(known)).value_counts(sort=True)
    if len(others):
        found = ", ".join(f"{name!r} in {number:,}" for name, number in others.head(10).iter_rows())
        expected = f"expected one that data.event_kinds names ({', '.join(known)}); drop = [...] leaves kinds out"
        problem = f"column {kinds.column!r}: got a kind of event that is not said: {found} of {len(values):,} rows"
        raise EventsError(table.source, f"{problem}, {expected}")


def as_weight(table: Table, column: str) -> pl.Series:
    """log2(1 + value) of each event, 0 below 0, 1 without a value; float32.

    Raises:
        EventsError: a value is not a number.
    """
    values = as_number(table, column)
    refuse(table, column, values, values.is_infinite(), "an infinite weight", "a finite number")
    weights = (1 + values.clip(0)).log(2).fill_null(1.0)
    return weights.cast(pl.Float32)


def drop_kinds(source: str, events: pl.DataFrame) -> pl.DataFrame:
    """Leave out the events whose kind is to be dropped.

    Raises:
        EventsError: no event is left.
    """
    kept = events.filter(pl.col("label").is_not_null())
    logger.info("%s: dropped %d events by their kinds", source, len(events) - len(kept))
    if not kept.select(((pl.col("label") == 1) & pl.col(TARGET)).any()).item():
        raise EventsError(
            source, "data.event_kinds.positive: got no event of these kinds, expected some"
        )
    return kept


def settle_returns(source: str, events: pl.DataFrame) -> pl.DataFrame:
    """Leave out returns and what they cancel: the latest earlier positive of the same user and item.

    Args:
        source: name of the log.
        events: sorted by user, then time. Returns are the events with `CANCELS`, and those with a `QUANTITY` of 0 or
            less; these columns are left out of the result.

    Raises:
        EventsError: no event is left.
    """
    is_return = pl.lit(value=False)
    if CANCELS in events.columns:
        is_return |= pl.col(CANCELS)
    if QUANTITY in events.columns:
        is_return |= (pl.col(QUANTITY) <= 0).fill_null(value=False)
    is_bought = (pl.col("label") == 1) & ~is_return
    if TARGET in events.columns:
        is_bought &= pl.col(TARGET)
    rows = events.select(
        "user",
        "item",
        pl.int_range(pl.len()).alias("place"),
        is_return.alias(CANCELS),
        is_bought.alias("bought"),
    )
    returns = rows[CANCELS]
    of_both = pl.col(CANCELS).any().over("user", "item") & (pl.col(CANCELS) | pl.col("bought"))
    gone = _cancelled(rows.filter(of_both).drop("bought").iter_rows())
    kept = events.filter(~(returns | rows["place"].is_in(gone)))
    number = int(returns.sum())
    logger.info("%s: dropped %d returns, and %d events that they cancel", source, number, len(gone))
    if kept.is_empty():
        raise EventsError(source, "events: got only returns and what they cancel, expected others")
    return kept.drop(CANCELS, QUANTITY, strict=False)


def _cancelled(rows: Iterable[tuple[str, str, int, bool]]) -> list[int]:
    """Places of the positives that are cancelled; `rows` is in the order of time for each user."""
    bought: dict[tuple[str, str], list[int]] = {}
    gone = []
    for user, item, place, cancels in rows:
        before = bought.setdefault((user, item), [])
        if not cancels:
            before.append(place)
        elif before:
            gone.append(before.pop())
    return gone
