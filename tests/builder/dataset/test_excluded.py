"""What a negative never is: the slate's items, those of the past, or all that the user takes; as loops say it."""

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.dataset.batches import BatchSource, find_slates
from builder.dataset.negatives import NegativeSampler
from builder.ingest.events import Events
from builder.ingest.split import Split
from builder.recipe.negatives import NegativeRule
from tests.builder.hand_made import Event, make_events

Exclude = Literal["slate", "past", "ever"]
EXCLUDES: tuple[Exclude, ...] = ("slate", "past", "ever")
NUM_ITEMS = 8
ALWAYS = Split(train_from_s=0, validate_from_s=10_000, test_from_s=10_001, end_s=10_002)
timelines = st.lists(
    st.lists(st.builds(Event, st.integers(0, 6), st.integers(2, NUM_ITEMS - 1)), max_size=10).map(
        lambda events: sorted(events, key=lambda event: event.ts_s)
    ),
    min_size=1,
    max_size=4,
).filter(any)


def excluded(events: Events, exclude: Exclude, target: int) -> set[int]:
    """Items that the rule excludes for one event, event by event."""
    user = events.users()
    found = set()
    for event, (item, ts_s) in enumerate(zip(events.item, events.ts_s, strict=True)):
        if user[event] != user[target]:
            continue
        is_in = {
            "slate": ts_s == events.ts_s[target],
            "past": ts_s <= events.ts_s[target],
            "ever": True,
        }
        if is_in[exclude]:
            found.add(int(item))
    return found


def rule(exclude: Exclude = "slate", own_past: float = 0.0) -> NegativeRule:
    return NegativeRule(exclude=exclude, own_past=own_past, popularity_power=0.0, same_category=0.0)


def draw(events: Events, rule: NegativeRule, target: int) -> set[int]:
    """Items that are drawn, without the 0 of the draws that gave up after `TRIES`."""
    rng = np.random.default_rng(0)
    return set(NegativeSampler(events, rule).draw(np.full(300, target), rng).tolist()) - {0}


@given(timelines, st.sampled_from(EXCLUDES))
def test_every_item_is_drawn_but_the_excluded(users, exclude) -> None:
    events = make_events(users, num_items=NUM_ITEMS, split=ALWAYS)

    for target in range(len(events.item)):
        wanted = set(events.item.tolist()) - excluded(events, exclude, target)
        assert draw(events, rule(exclude), target) == wanted


@given(timelines)
def test_own_past_draws_the_users_earlier_items_that_are_not_in_the_slate(users) -> None:
    events = make_events(users, num_items=NUM_ITEMS, split=ALWAYS)

    for target in range(len(events.item)):
        slate = excluded(events, "slate", target)
        past = excluded(events, "past", target)
        earlier = {
            int(item)
            for item, ts_s, user in zip(events.item, events.ts_s, events.users(), strict=True)
            if user == events.users()[target] and ts_s < events.ts_s[target]
        }
        drawn = draw(events, rule(own_past=1.0), target)
        others = set(events.item.tolist()) - slate
        assert past == earlier | slate
        # Without an earlier event, negatives are drawn as without `own_past`.
        assert drawn == (earlier - slate if earlier else others)


def test_a_user_draws_what_others_take() -> None:
    events = make_events([[Event(5, 2), Event(6, 3)], [Event(1, 4)]], split=ALWAYS)

    assert draw(events, rule("slate"), 1) == {2, 4}
    assert draw(events, rule("past"), 1) == {4}
    assert draw(events, rule("ever"), 0) == {4}
    assert draw(events, rule("past"), 0) == {3, 4}


def test_pieces_of_a_slate_exclude_the_whole_slate() -> None:
    basket = [Event(5, item) for item in range(2, 8)]
    events = make_events([basket, [Event(1, 8), Event(2, 9)]], split=ALWAYS)
    slates = find_slates(events, "train", min_events=0, max_events=2)
    source = BatchSource(
        events, NegativeSampler(events, rule("slate")), slate_events=2, per_positive=30
    )

    _, targets = source.batch(slates, np.flatnonzero(slates.user == 0), np.random.default_rng(0))

    assert len(targets.items) == 3
    assert set(targets.items[targets.mask & (targets.event < 0)].tolist()) == {8, 9}


def test_own_past_is_drawn_as_often_as_it_was_taken() -> None:
    often = [Event(1 + time, 2) for time in range(9)]
    events = make_events([[*often, Event(20, 3), Event(30, 4)], [Event(1, 5)]], split=ALWAYS)
    sampler = NegativeSampler(events, rule(own_past=0.5))

    drawn = sampler.draw(np.full(20_000, 10), np.random.default_rng(0))

    share = np.bincount(drawn, minlength=6) / len(drawn)
    # Half from ten own events, nine of which are item 2; half uniformly from the items 2, 3 and 5.
    assert share[[2, 3, 5]] == pytest.approx([0.45 + 1 / 6, 0.05 + 1 / 6, 1 / 6], abs=0.015)


def test_split_by_event_excludes_in_training_only_what_training_knows() -> None:
    """Otherwise the items of test events would be those that are never a training negative."""
    split = replace(ALWAYS, validate_events=0.3, test_events=0.3)
    events = make_events([[Event(0, item) for item in range(2, 20)]], split=split)
    order = np.argsort(events.parts(), kind="stable")  # as an ingested log is
    events = replace(events, item=events.item[order])
    known = events.is_known()
    others = set(events.item[~known].tolist())

    for exclude in EXCLUDES:
        sampler = NegativeSampler(events, rule(exclude), known)
        drawn = sampler.draw(np.zeros(500, np.int64), np.random.default_rng(0))
        assert set(drawn.tolist()) - {0} == others
