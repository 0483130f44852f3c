"""Slates and batches: history events are earlier than the target, and no event is lost or duplicated."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.dataset.batches import BatchSource, Part, Slates, find_slates
from builder.dataset.negatives import NegativeSampler
from builder.ingest.events import Events
from builder.ingest.split import Split
from builder.recipe.negatives import NegativeRule
from models.contract.schema import PADDING
from tests.builder.hand_made import SPLIT, Event, make_events

PARTS: tuple[Part, ...] = ("train", "validate", "test")
ALWAYS = Split(train_from_s=0, validate_from_s=10_000, test_from_s=10_001, end_s=10_002)
timelines = st.lists(
    st.lists(
        st.builds(Event, st.integers(0, 12), st.integers(2, 19), st.integers(0, 1)), max_size=15
    ).map(lambda events: sorted(events, key=lambda event: event.ts_s)),
    min_size=1,
    max_size=4,
)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def every(slates: Slates) -> np.ndarray:
    return np.arange(len(slates))


def own_labels(events: Events, slate_events: int = 4) -> BatchSource:
    return BatchSource(events, None, slate_events=slate_events, per_positive=0)


def drawing(events: Events, slate_events: int = 4, per_positive: int = 1) -> BatchSource:
    sampler = NegativeSampler(events, NegativeRule(popularity_power=1.0, same_category=0.0))
    return BatchSource(events, sampler, slate_events=slate_events, per_positive=per_positive)


@given(timelines, st.integers(1, 6), st.integers(1, 6), st.integers(1, 3))
def test_history_is_the_latest_clicks_strictly_before(users, length, recent, slate_events) -> None:
    events = make_events(users, length=length, recent=recent, split=ALWAYS)
    slates = find_slates(events, "train", min_events=0, max_events=slate_events)
    if not len(slates):
        assert not any(users)
        return

    batch, targets = own_labels(events, slate_events).batch(slates, every(slates), rng())

    for row, user in enumerate(slates.user):
        time_s = events.ts_s[slates.begin[row]]
        clicks = [e.item for e in users[user] if e.ts_s < time_s and e.label]
        padded = [PADDING] * max(length, recent) + clicks
        assert batch.user.history[row].tolist() == padded[-length:]
        assert targets.history[row].tolist() == padded[-length:]
        assert batch.context.recent[row].tolist() == padded[-recent:]


@given(timelines, st.integers(1, 3))
def test_every_event_is_a_target_exactly_once(users, slate_events) -> None:
    events = make_events(users, split=ALWAYS)
    slates = find_slates(events, "train", min_events=0, max_events=slate_events)

    spans = zip(slates.begin, slates.end, strict=True)

    seen = sorted(event for begin, end in spans for event in range(begin, end))
    assert seen == list(range(len(events.item)))
    assert (slates.end - slates.begin).max(initial=1) <= slate_events


def test_basket_shares_one_history() -> None:
    events = make_events([[Event(1, 2), Event(2, 3), Event(150, 4), Event(150, 5), Event(150, 6)]])
    slates = find_slates(events, "train", min_events=0, max_events=8)

    batch, targets = own_labels(events, 8).batch(slates, every(slates), rng())

    assert len(slates) == 1
    assert batch.slate.items[0][batch.mask[0]].tolist() == [4, 5, 6]
    assert batch.user.history.tolist() == [[0, 0, 2, 3]]
    assert targets.event[0].tolist() == [2, 3, 4, -1, -1, -1, -1, -1]


def test_big_basket_is_cut_and_the_pieces_share_its_history() -> None:
    basket = [Event(150, item) for item in range(4, 11)]
    events = make_events([[Event(1, 2), Event(2, 3), *basket]])

    slates = find_slates(events, "train", min_events=0, max_events=3)
    batch, _ = own_labels(events, 3).batch(slates, every(slates), rng())

    assert (slates.end - slates.begin).tolist() == [3, 3, 1]
    assert batch.user.history.tolist() == [[0, 0, 2, 3]] * 3
    assert [
        row[mask].tolist() for row, mask in zip(batch.slate.items, batch.mask, strict=True)
    ] == [
        [4, 5, 6],
        [7, 8, 9],
        [10],
    ]


@pytest.mark.parametrize(
    ("ts_s", "part"),
    [
        (99, None),
        (100, "train"),
        (199, "train"),
        (200, "validate"),
        (299, "validate"),
        (300, "test"),
        (399, "test"),
        (400, None),
    ],
)
def test_periods_hold_their_first_second_and_not_their_last(ts_s, part) -> None:
    events = make_events([[Event(ts_s, 2)]])

    found = [name for name in PARTS if len(find_slates(events, name, min_events=0, max_events=4))]

    assert found == ([part] if part else [])


@pytest.mark.parametrize(("last_s", "part"), [(150, "train"), (250, "validate"), (350, "test")])
def test_last_slate_is_the_only_target_in_each_part(last_s, part) -> None:
    log = [Event(110, 2), Event(120, 3), Event(last_s, 4), Event(last_s, 5), Event(last_s, 6)]
    events = make_events([log, [], [Event(101, 7)]], split=replace(SPLIT, last_only=True))

    found = {name: find_slates(events, name, min_events=1, max_events=2) for name in PARTS}
    batch, _ = own_labels(events, 2).batch(found[part], every(found[part]), rng())

    assert {name: len(slates) for name, slates in found.items() if len(slates)} == {part: 2}
    assert batch.slate.items[batch.mask].tolist() == [4, 5, 6]
    assert batch.user.history.tolist() == [[0, 0, 2, 3]] * 2


def test_last_slate_without_enough_history_is_not_replaced_by_an_earlier_one() -> None:
    log = [Event(110, 2), Event(120, 3), Event(120, 4)]
    events = make_events([log], split=replace(SPLIT, last_only=True))

    assert not len(find_slates(events, "train", min_events=2, max_events=4))


def test_split_by_user_puts_all_targets_of_a_user_into_one_part() -> None:
    by_user = Split(0, 400, 400, 400, validate_users=0.3, test_users=0.3)
    log = [Event(50, 2), Event(150, 3), Event(250, 4), Event(350, 5)]
    events = make_events([log] * 40, split=by_user)

    found = [find_slates(events, part, min_events=1, max_events=4) for part in PARTS]

    users = [set(slates.user.tolist()) for slates in found]
    assert all(len(part) > 4 for part in users)
    assert sorted(user for part in users for user in part) == list(range(40))
    assert sum(map(len, found)) == 40 * 3


def test_history_reaches_back_over_the_edges_of_periods() -> None:
    events = make_events([[Event(50, 2), Event(150, 3), Event(250, 4), Event(350, 5)]])
    slates = find_slates(events, "test", min_events=0, max_events=4)

    batch, _ = own_labels(events).batch(slates, every(slates), rng())

    assert batch.user.history.tolist() == [[0, 2, 3, 4]]


@pytest.mark.parametrize(("min_events", "expected"), [(0, 3), (1, 2), (2, 2), (3, 1), (4, 0)])
def test_targets_with_too_few_events_before_are_left_out(min_events, expected) -> None:
    """Events of the target's own basket do not count."""
    log = [Event(110, 2), Event(110, 3), Event(120, 4), Event(130, 5)]

    slates = find_slates(make_events([log]), "train", min_events=min_events, max_events=4)

    assert len(slates) == expected


def test_users_do_not_see_each_other() -> None:
    events = make_events([[Event(101, 2), Event(102, 3)], [Event(101, 4), Event(102, 5)], []])
    slates = find_slates(events, "train", min_events=1, max_events=4)

    batch, targets = own_labels(events).batch(slates, every(slates), rng())

    assert targets.user.tolist() == [0, 1]
    assert batch.user.history.tolist() == [[0, 0, 0, 2], [0, 0, 0, 4]]


def test_same_time_of_two_users_is_two_slates() -> None:
    events = make_events([[Event(101, 2)], [Event(101, 3)]])

    assert find_slates(events, "train", min_events=0, max_events=4).user.tolist() == [0, 1]


def test_log_of_impressions_brings_its_own_negatives() -> None:
    shown = [
        Event(101, 2, 0),
        Event(101, 3, 1),
        Event(120, 4, 0),
        Event(120, 5, 1),
        Event(120, 6, 0),
    ]
    events = make_events([shown])
    slates = find_slates(events, "train", min_events=1, max_events=4)

    batch, targets = own_labels(events).batch(slates, every(slates), rng())

    assert batch.slate.items.tolist() == [[4, 5, 6, 4]]
    assert batch.mask.tolist() == [[True, True, True, False]]
    assert batch.label[batch.mask].tolist() == [0, 1, 0]
    assert batch.user.history.tolist() == [[0, 0, 0, 3]]  # 2 was shown, not clicked
    assert targets.event[targets.mask].tolist() == [2, 3, 4]


def test_log_without_a_click_has_empty_histories() -> None:
    events = make_events([[Event(101, 2, 0), Event(102, 3, 0)]])
    slates = find_slates(events, "train", min_events=0, max_events=4)

    batch, _ = own_labels(events).batch(slates, every(slates), rng())

    assert not batch.user.history.any()
    assert not batch.context.recent.any()


def test_drawn_negatives_follow_the_positives() -> None:
    other = [Event(101, item) for item in range(8, 16)]
    events = make_events([[Event(110, 2), Event(110, 3)], other])
    slates = find_slates(events, "train", min_events=0, max_events=8)

    batch, targets = drawing(events, 8, per_positive=3).batch(slates, np.array([0]), rng())

    assert batch.slate.items.shape == (1, 8 * 4)
    assert batch.label[batch.mask].tolist() == [1, 1, 0, 0, 0, 0, 0, 0]
    negative = batch.slate.items[0, 8:][batch.mask[0, 8:]]
    assert len(negative) == 6
    assert set(negative.tolist()) <= set(range(8, 16))
    assert (targets.event[0, 8:] == -1).all()


def test_padding_repeats_the_slate_in_turn() -> None:
    """BatchNorm then sees real candidates, each about equally often."""
    events = make_events([[Event(110, 2), Event(110, 3), Event(110, 4)], [Event(110, 5)]])
    slates = find_slates(events, "train", min_events=0, max_events=8)

    batch, targets = own_labels(events, 8).batch(slates, every(slates), rng())

    assert batch.slate.items.tolist() == [[2, 3, 4, 2, 3, 4, 2, 3], [5] * 8]
    assert batch.mask.sum(1).tolist() == [3, 1]
    assert np.array_equal(targets.items, batch.slate.items.numpy())


def test_padding_between_positives_and_negatives_is_filled_too() -> None:
    events = make_events([[Event(110, 2)], [Event(101, 3), Event(102, 3)]])
    slates = find_slates(events, "train", min_events=0, max_events=3)

    batch, _ = drawing(events, 3).batch(slates, np.array([0]), rng())

    assert batch.slate.items.tolist() == [[2, 2, 3, 3, 2, 3]]
    assert batch.mask.tolist() == [[True, False, False, True, False, False]]


def test_context_is_that_of_the_target() -> None:
    events = make_events([[Event(101, 2), Event(117, 3)]])
    slates = find_slates(events, "train", min_events=0, max_events=4)

    batch, _ = own_labels(events).batch(slates, every(slates), rng())

    assert batch.context.fields.tolist() == [[101], [117]]


def test_epoch_shows_every_slate_once_in_an_order_of_the_seed() -> None:
    events = make_events([[Event(100 + second, 2 + second) for second in range(10)]])
    slates = find_slates(events, "train", min_events=0, max_events=4)

    def first_items(seed: int, *, shuffle: bool) -> list[int]:
        epoch = own_labels(events).epoch(slates, 4, np.random.default_rng(seed), shuffle=shuffle)
        return [int(item) for batch, _ in epoch for item in batch.slate.items[:, 0]]

    assert first_items(1, shuffle=False) == list(range(2, 12))
    assert Counter(first_items(1, shuffle=True)) == Counter(range(2, 12))
    assert (
        first_items(1, shuffle=True) == first_items(1, shuffle=True) != first_items(2, shuffle=True)
    )


def test_slate_has_one_context_and_events_of_its_time_are_no_history() -> None:
    """Events of one time that were shown in two contexts are two requests."""
    events = make_events([[Event(100, 2), Event(110, 3), Event(110, 4), Event(110, 5)]])
    events = replace(events, context=np.array([[2], [3], [3], [4]], np.int32))

    slates = find_slates(events, "train", min_events=0, max_events=4)
    source = BatchSource(events, None, slate_events=4, per_positive=1)
    batch, _ = source.batch(slates, np.arange(3), np.random.default_rng(0))

    assert list(zip(slates.begin, slates.end, slates.first, strict=True)) == [
        (0, 1, 0),
        (1, 3, 1),
        (3, 4, 1),
    ]
    assert batch.context.fields.flatten().tolist() == [2, 3, 4]
    assert batch.user.history[:, -1].tolist() == [0, 2, 2]
