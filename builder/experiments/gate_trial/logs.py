"""Damaged logs: what a broken join of the labels, or a field that is computed too late, makes of a good log."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from builder.dataset.pool_candidates import positive_places
from builder.dataset.slates import slate_starts
from builder.errors import StepError
from builder.experiments.days.nights import read_log
from builder.ingest.assemble import assemble
from builder.ingest.events import Events
from builder.ingest.pools import NO_POOL
from builder.ingest.split import DAY_S, PARTS
from builder.recipe.recipe import Recipe
from models.contract.schema import FIRST_KNOWN

EARLIER_S = 60
"""Seconds before a purchase at which a leaking history already holds it."""


def with_shuffled_labels(events: Events, parts: Sequence[str], seed: int = 0) -> Events:
    """The log whose labels of some parts are drawn again within each slate.

    In a log with pools another candidate of the pool is bought, in a log with labels they change places; where
    negatives are drawn, the events of the parts change items.
    """
    rng, part = np.random.default_rng(seed), events.parts()
    chosen = np.isin(part, [PARTS.index(name) for name in parts])
    item, label = np.array(events.item), np.array(events.label)
    if events.pools is not None:
        bought = np.flatnonzero(chosen & (positive_places(events) >= 0))
        pool = np.asarray(events.event_pool)[bought]
        first, sizes = np.asarray(events.pools.first)[pool], events.pools.sizes[pool]
        item[bought] = np.asarray(events.pools.item)[first + _below(sizes, rng)]
    elif events.has_impressions:
        slate, at = np.cumsum(slate_starts(events, part)[1]), np.flatnonzero(chosen)
        order = np.lexsort((rng.random(len(at)), slate[at]))
        label[at] = label[at[order]]
    else:
        at = np.flatnonzero(chosen)
        item[at] = item[rng.permutation(at)]
    return replace(events, item=item, label=label)


def _below(sizes: NDArray[np.integer], rng: np.random.Generator) -> NDArray[np.int64]:
    return np.asarray((rng.random(len(sizes)) * sizes).astype(np.int64))


def with_leaking_field(events: Events) -> Events:
    """The log with a field that is computed from the labels.

    In a log with pools the first candidate field has one value for what somebody bought from the pool, and no other
    candidate has it: a badge "bought this week", written after the week. Elsewhere the first context field is the
    label.

    Raises:
        StepError: the log has no such field.
    """
    schema = events.schema
    if not (schema.candidate_fields if events.pools is not None else schema.context_fields):
        raise StepError("gate-trial, leak: got a log without a field for it, expected one")
    if events.pools is None:
        context = np.array(events.context)
        context[:, 0] = FIRST_KNOWN + np.asarray(events.label)
        return replace(events, context=context)
    place = positive_places(events)
    bought = np.flatnonzero(place >= 0)
    first = np.asarray(events.pools.first)[np.asarray(events.event_pool)[bought]]
    fields, badge = np.array(events.pools.fields), schema.candidate_fields[0].size - 1
    fields[fields[:, 0] == badge, 0] = FIRST_KNOWN
    fields[first + place[bought], 0] = badge
    return replace(events, pools=replace(events.pools, fields=fields))


def with_targets_in_history(events: Events) -> Events:
    """The log in which every event that has a pool also happened a minute before, as history.

    So is a log whose carts are joined to its purchases: no event reaches its own slate, and each tells it all.

    Raises:
        StepError: the log has no pools, and every event of it is a target.
    """
    if events.event_pool is None:
        raise StepError("gate-trial, leak: got a log without pools, expected one with pools")
    copied = np.flatnonzero(np.asarray(events.event_pool) != NO_POOL)
    source = np.concatenate([np.arange(len(events.item)), copied])
    is_copy = np.arange(len(source)) >= len(events.item)
    ts_s = np.asarray(events.ts_s)[source] - EARLIER_S * is_copy
    pool = np.where(is_copy, NO_POOL, np.asarray(events.event_pool)[source]).astype(np.int32)
    user = events.users()[source]
    order = np.lexsort((pool, ts_s, user))
    source = source[order]
    counts = np.bincount(user, minlength=events.num_users)
    return replace(
        events,
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        ts_s=ts_s[order],
        event_pool=pool[order],
        item=np.asarray(events.item)[source],
        label=np.asarray(events.label)[source],
        context=np.asarray(events.context)[source],
        oracle=None if events.oracle is None else np.asarray(events.oracle)[source],
    )


def a_day_later(events: Events, recipe: Recipe) -> Events:
    """The log, cut a day later: what the next night trains on, with a vocabulary of its own.

    Raises:
        StepError: the log is not split by time.
    """
    split = events.split
    if split.test_users or split.test_events or split.last_only:
        raise StepError("gate-trial, split: got one by user or by event, expected one by time")
    later = {name: getattr(split, name) + DAY_S for name in ("validate_from_s", "test_from_s")}
    return assemble(read_log(recipe), replace(split, **later), recipe)
