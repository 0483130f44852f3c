"""CleanLog + Split -> Events: dense ids from the training part only, in arrays sorted by user and time."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from builder.ingest.assemble_pools import AssembledPools, assemble_pools
from builder.ingest.catalogue import Catalogue, make_catalogue
from builder.ingest.clean import CleanLog, context_column
from builder.ingest.dense import Encoded, dense_ids, encode_columns, schema_fields
from builder.ingest.event_kinds import TARGET, WEIGHT
from builder.ingest.events import Events
from builder.ingest.split import Split
from builder.recipe.recipe import Recipe
from models.contract.schema import FIRST_KNOWN, FeatureSchema
from models.contract.vocabulary import Vocabulary


@dataclass(frozen=True)
class _Rows:
    """Who and what each event is about.

    Attributes:
        user_ids: raw ids, [U].
        offsets: events of user u are [offsets[u], offsets[u + 1]); [U + 1].
        item: catalogue row of each event, [E].
        part: part of each event as a place in `PARTS`, -1 for none, [E].
    """

    user_ids: pl.Series
    offsets: NDArray[np.int64]
    item: NDArray[np.int32]
    part: NDArray[np.int8]


def assemble(log: CleanLog, split: Split, recipe: Recipe) -> Events:
    """Turn a clean log into arrays.

    Args:
        log: the checked tables.
        split: which events training may know.
        recipe: names the fields, the history lengths and the category.
    """
    log, rows = _order_by_part(log, split)
    data, events = recipe.data, log.events
    is_known = split.is_known(rows.part, log.times_s)
    profiles, has_known = _profiles(log, rows, is_known)
    rules = data.fields
    user = encode_columns(profiles, {n: n for n in data.user_fields}, has_known, rules)
    columns = {name: context_column(name) for name in data.context_fields}
    context = encode_columns(events, columns, pl.Series(is_known), rules, log.times_s)
    is_popular = _counts_as_popular(log, split, is_known)
    catalogue = make_catalogue(log.items, rows.item, is_known, is_popular, recipe)
    pools = assemble_pools(log, rows.part, is_known, data.candidate_fields, rules)
    return Events(
        user_ids=rows.user_ids.to_list(),
        offsets=rows.offsets,
        item=rows.item,
        ts_s=log.times_s,
        label=events["label"].to_numpy(),
        context=context.ids,
        user_fields=user.ids,
        item_fields=catalogue.fields,
        category=catalogue.column(data.category),
        train_popularity=catalogue.train_popularity,
        popularity=catalogue.popularity,
        has_impressions=log.has_impressions,
        split=split,
        schema=FeatureSchema(
            item_fields=catalogue.schema,
            user_fields=schema_fields(user.values),
            context_fields=schema_fields(context.values),
            num_items=len(log.items) + FIRST_KNOWN,
            history_length=recipe.history.length,
            recent_length=recipe.history.recent,
            candidate_fields=schema_fields(pools.values if pools else {}),
        ),
        vocabulary=_vocabulary(log, catalogue, user, context, pools),
        oracle=events["oracle"].to_numpy() if log.has_oracle else None,
        item_values=catalogue.values,
        item_texts=None if log.item_texts is None else log.item_texts.to_list(),
        event_pool=pools.event_pool if pools else None,
        pools=pools.pools if pools else None,
        is_target=_optional(events, TARGET),
        weight=_optional(events, WEIGHT),
    )


def _optional(events: pl.DataFrame, column: str) -> NDArray[Any] | None:
    """A column, or None where it is missing or all of it is 1."""
    if column not in events.columns or (events[column].cast(pl.Float32) == 1).all():
        return None
    return events[column].to_numpy()


def _vocabulary(
    log: CleanLog,
    catalogue: Catalogue,
    user: Encoded,
    context: Encoded,
    pools: AssembledPools | None,
) -> Vocabulary:
    readers = {
        "item": catalogue.readers,
        "user": user.readers,
        "context": context.readers,
        "candidate": pools.readers if pools else {},
    }
    return Vocabulary(
        log.items["item"].to_list(),
        user.values,
        context.values,
        pools.values if pools else {},
        readers={kind: own for kind, own in readers.items() if own},
    )


def _counts_as_popular(
    log: CleanLog, split: Split, is_known: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Events that the field "popularity" counts, [E].

    Where pools bring items that are not bought, the events of the training part would tell which items those are: a
    pool's item that was never bought in training is a negative with certainty there, but not in the test part.
    """
    if log.pools is None:
        return is_known
    is_before = is_known & (log.times_s < split.train_from_s)
    return is_before if is_before.any() else is_known


def _order_by_part(log: CleanLog, split: Split) -> tuple[CleanLog, _Rows]:
    """The log with events of equal times ordered by their part: a slate, which is of one part, is then a range."""
    rows = _rows(log, split)
    if not split.test_events:
        return log, rows
    events = log.events.with_columns(part=pl.Series(rows.part))
    events = events.sort("user", "ts_s", "part", maintain_order=True).drop("part")
    log = replace(log, events=events)
    return log, _rows(log, split)


def _rows(log: CleanLog, split: Split) -> _Rows:
    events = log.events
    runs = events["user"].rle().struct.unnest()
    offsets = np.concatenate([[0], np.cumsum(runs["len"].to_numpy(), dtype=np.int64)])
    user = np.repeat(np.arange(len(runs)), runs["len"].to_numpy())
    items = log.items["item"].to_list()
    item = dense_ids(events["item"], items)
    part = split.parts(runs["value"].to_list(), user, items, item - FIRST_KNOWN, log.times_s)
    return _Rows(runs["value"], offsets.astype(np.int64), item, part)


def _profiles(
    log: CleanLog, rows: _Rows, is_known: NDArray[np.bool_]
) -> tuple[pl.DataFrame, pl.Series]:
    """The user table in the order of the events' users, and which of them training knows; both [U] rows."""
    profiles = pl.DataFrame({"user": rows.user_ids}).join(
        log.users, on="user", how="left", maintain_order="left"
    )
    has_known = pl.Series(np.add.reduceat(is_known, rows.offsets[:-1], dtype=np.int64) > 0)
    return profiles, has_known
