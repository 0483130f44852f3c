"""Negatives from a window: what all users took shortly before the target, as often as they took it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.dataset.negatives import HOUR_S, NegativeSampler
from builder.ingest.events import Events
from builder.ingest.split import Split
from builder.recipe.negatives import NegativeRule
from tests.builder.hand_made import Event, make_events

ALWAYS = Split(train_from_s=0, validate_from_s=99_990, test_from_s=99_991, end_s=99_992)
RULE = NegativeRule(
    exclude="past", same_category=0.0, popularity_power=1.0, window_hours=10 / HOUR_S
)
timelines = st.lists(
    st.lists(st.builds(Event, st.integers(0, 30), st.integers(2, 7)), max_size=8).map(
        lambda events: sorted(events, key=lambda event: event.ts_s)
    ),
    min_size=1,
    max_size=4,
).filter(any)


def draw(events: Events, target: int, known: np.ndarray | None = None) -> np.ndarray:
    sampler = NegativeSampler(events, RULE, known)
    return sampler.draw(np.full(400, target), np.random.default_rng(0))


@given(timelines)
def test_negatives_are_the_items_of_the_window_that_the_user_has_not_taken(users) -> None:
    events = make_events(users, num_items=8, split=ALWAYS)

    for target, (now, user) in enumerate(zip(events.ts_s, events.users(), strict=True)):
        taken = {e.item for e in users[user] if e.ts_s <= now}
        window = {e.item for log in users for e in log if now - 10 <= e.ts_s < now}
        # 0: every draw was excluded
        assert set(draw(events, target).tolist()) - {0} == window - taken


def test_items_are_drawn_as_often_as_the_window_holds_them() -> None:
    others = [Event(95, 2)] * 3 + [Event(99, 3)] + [Event(100, 4)] * 50
    events = make_events([[Event(100, 5)], others], split=ALWAYS)
    sampler = NegativeSampler(events, RULE)

    drawn = sampler.draw(np.zeros(8_000, np.int64), np.random.default_rng(0))

    assert np.bincount(drawn, minlength=5)[[0, 2, 3, 4]] / 8_000 == pytest.approx(
        [0, 0.75, 0.25, 0], abs=0.02
    )


def test_training_draws_only_events_that_it_may_count() -> None:
    events = make_events([[Event(100, 5)], [Event(95, 2)], [Event(96, 3)]], split=ALWAYS)
    known = np.array([True, False, True])

    assert set(draw(events, 0, known).tolist()) == {3}
    assert set(draw(events, 0).tolist()) == {2, 3}
