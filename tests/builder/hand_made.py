"""Logs given event by event, in dense ids, for tests that check each event."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from builder.ingest.events import Events
from builder.ingest.pools import Pools
from builder.ingest.split import Split
from models.contract.schema import FIRST_KNOWN, FeatureSchema, Field
from models.contract.vocabulary import Vocabulary

SPLIT = Split(train_from_s=100, validate_from_s=200, test_from_s=300, end_s=400)


@dataclass(frozen=True)
class Event:
    """One line of a log: catalogue rows start at 2."""

    ts_s: int
    item: int
    label: int = 1


def make_events(
    users: Sequence[Sequence[Event]],
    *,
    categories: Sequence[int] = (),
    num_items: int = 20,
    length: int = 4,
    recent: int = 2,
    split: Split = SPLIT,
) -> Events:
    """A log of each user's events, which must be sorted by time.

    Args:
        users: events of each user.
        categories: categories of items 2, 3, …; empty: all items share one.
        num_items: rows of the catalogue.
        length: L.
        recent: N.
        split: the split by time.
    """
    log = [event for events in users for event in events]
    item = np.array([event.item for event in log], np.int32)
    label = np.array([event.label for event in log], np.int8)
    ts_s = np.array([event.ts_s for event in log], np.int64)
    category = np.full(num_items, 2, np.int32)
    category[:FIRST_KNOWN] = 0, 1
    category[FIRST_KNOWN : FIRST_KNOWN + len(categories)] = categories
    in_training = ts_s < split.validate_from_s
    own = np.arange(num_items, dtype=np.int32)
    fields = (Field("item", num_items), Field("category", int(category.max()) + 1))
    context = (Field("second", 1_000),)
    return Events(
        user_ids=[f"u{user}" for user in range(len(users))],
        offsets=np.cumsum([0, *map(len, users)]).astype(np.int64),
        item=item,
        ts_s=ts_s,
        label=label,
        context=(ts_s[:, None] % 1_000).astype(np.int32),
        user_fields=np.zeros((len(users), 0), np.int32),
        item_fields=np.stack([own, category], 1),
        category=category,
        train_popularity=np.bincount(item[in_training], minlength=num_items),
        popularity=np.bincount(item, minlength=num_items),
        has_impressions=bool((label == 0).any()),
        split=split,
        schema=FeatureSchema(fields, (), context, num_items, length, recent),
        vocabulary=Vocabulary(
            [f"i{row}" for row in range(FIRST_KNOWN, num_items)],
            {},
            {"second": [str(second) for second in range(FIRST_KNOWN, 1_000)]},
        ),
    )


def with_pools(
    events: Events, pools: Sequence[Mapping[int, int]], event_pool: Sequence[int]
) -> Events:
    """The log with known candidates, which have one candidate field.

    Args:
        events: the log.
        pools: item -> id of its field "place" (2 to 11), for each pool.
        event_pool: pool of each event, -1 for none.
    """
    pairs = [sorted(pool.items()) for pool in pools]
    rows = np.array([pair for pool in pairs for pair in pool], np.int32).reshape(-1, 2)
    first = np.cumsum([0, *map(len, pairs)]).astype(np.int64)
    places = {"place": [str(place) for place in range(10)]}
    return replace(
        events,
        event_pool=np.array(event_pool, np.int32),
        pools=Pools(first, rows[:, 0].copy(), rows[:, 1:].astype(np.uint8)),
        schema=replace(events.schema, candidate_fields=(Field("place", 12),)),
        vocabulary=replace(events.vocabulary, candidate=places),
    )


def with_oracle(events: Events, oracle: Sequence[float]) -> Events:
    """The log with known probabilities."""
    return replace(events, oracle=np.array(oracle, np.float32))
