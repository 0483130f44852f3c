"""Events that are left out: of forgotten users, neutral ratings, returns, repeats. No history and no count has them."""

import logging

import polars as pl

from builder.errors import EventsError
from builder.recipe.data import Data
from models.live.tombstones import Tombstones

logger = logging.getLogger(__name__)

QUANTITY = "quantity"


def drop_forgotten(source: str, events: pl.DataFrame, tombstones: Tombstones) -> pl.DataFrame:
    """Drop the events of forgotten users.

    Raises:
        EventsError: no event is left.
    """
    forgotten = tombstones.named(events["user"].unique().to_list())
    if not forgotten:
        return events
    kept = events.filter(~pl.col("user").is_in(forgotten))
    _log(source, events, kept, f"of {len(forgotten)} forgotten users")
    if kept.is_empty():
        problem = "events: got only events of forgotten users, expected some of others"
        raise EventsError(source, problem)
    return kept


def drop_neutral(source: str, events: pl.DataFrame, data: Data) -> pl.DataFrame:
    """Drop events that are neither positive nor negative, where the recipe limits negatives.

    Raises:
        EventsError: no event is left.
    """
    if data.negative_to is None:
        return events
    limits = f"with ratings between {data.negative_to:g} and {data.positive_from:g}"
    kept = events.filter(pl.col("label").is_not_null())
    _log(source, events, kept, limits)
    if kept.is_empty():
        problem = "events: got only ratings between data.negative_to and data.positive_from"
        raise EventsError(source, f"{problem}, expected some outside")
    return kept


def drop_returns(source: str, events: pl.DataFrame) -> pl.DataFrame:
    """Drop events with a quantity of 0 or less, and the column; an event without a quantity is kept.

    Raises:
        EventsError: no event is left.
    """
    kept = events.filter((pl.col(QUANTITY) > 0).fill_null(value=True)).drop(QUANTITY)
    _log(source, events, kept, "with a quantity of 0 or less")
    if kept.is_empty():
        problem = "events: got only quantities of 0 or less (data.columns.quantity)"
        raise EventsError(source, f"{problem}, expected some above 0")
    return kept


def drop_repeats(source: str, events: pl.DataFrame) -> pl.DataFrame:
    """Keep the first event of each user with each item. `events` is sorted by user, then time."""
    kept = events.unique(["user", "item"], keep="first", maintain_order=True)
    _log(source, events, kept, "repeats of a user's item")
    return kept


def _log(source: str, events: pl.DataFrame, kept: pl.DataFrame, why: str) -> None:
    logger.info(
        "%s: dropped %d of %d events, %s", source, len(events) - len(kept), len(events), why
    )
