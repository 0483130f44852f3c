"""What the rules are asked about, against what a loop over targets and events finds."""

import numpy as np
import pytest

from builder.audit import view as view_module
from builder.audit.view import View, view_of
from builder.dataset.batches import BatchSource, find_slates
from tests.builder.hand_made import Event, make_events

CATEGORIES = [2, 3, 2, 3, 4, 2]


def small_view() -> tuple[View, list[dict[str, int]]]:
    """Two users with random events, and each target of the training part as a loop finds it."""
    rng = np.random.default_rng(0)
    users = [
        [Event(ts, int(rng.integers(2, 8)), int(rng.integers(0, 2))) for ts in times]
        for times in ([10, 20, 20, 150, 150, 160, 170], [5, 110, 110, 110, 190])
    ]
    events = make_events(users, categories=CATEGORIES, num_items=8, length=3)
    keys: list[np.ndarray] = [np.arange(8), np.asarray(events.category)]
    slates = find_slates(events, "train", min_events=0, max_events=8)
    source = BatchSource(events, None, slate_events=8, per_positive=1)
    batch, targets = source.batch(slates, np.arange(len(slates)), rng)
    expected = []
    for user, log in enumerate(users):
        for event in log:
            if not 100 <= event.ts_s < 200:
                continue
            history = [e for e in log if e.ts_s < event.ts_s and e.label][-3:]
            same = [e for e in history if e.item == event.item]
            expected.append(
                {
                    "user": user,
                    "item": event.item,
                    "label": event.label,
                    "times": len(same),
                    "category": sum(keys[1][e.item] == keys[1][event.item] for e in history),
                    "length": len(history),
                    "age": event.ts_s - same[-1].ts_s if same else -1,
                }
            )
    return view_of(batch, targets, keys), expected


@pytest.mark.parametrize("most_keys", [1 << 17, 1], ids=["in a table", "numbered anew"])
def test_a_view_is_what_a_loop_finds(monkeypatch: pytest.MonkeyPatch, most_keys: int) -> None:
    monkeypatch.setattr(view_module, "MOST_KEYS", most_keys)

    view, expected = small_view()

    assert len(view) == len(expected) > 5
    for column, name in (
        (view.user, "user"),
        (view.item, "item"),
        (view.label, "label"),
        (view.counts[:, 0], "times"),
        (view.counts[:, 1], "category"),
        (view.length, "length"),
    ):
        assert column.tolist() == [target[name] for target in expected], name
    assert (view.counts[:, 0] > 0).tolist() == (view.age > 0).tolist()
    assert view.counts.any()


def test_ages_are_those_of_the_latest_event_with_the_item() -> None:
    users = [[Event(10, 2), Event(90, 3), Event(99, 2), Event(150, 2), Event(150, 3)]]
    events = make_events(users, num_items=4)
    slates = find_slates(events, "train", min_events=0, max_events=8)
    source = BatchSource(events, None, slate_events=8, per_positive=1)

    batch, targets = source.batch(slates, np.arange(1), np.random.default_rng(0))
    view = view_of(batch, targets, [np.arange(4)])

    assert view.counts[:, 0].tolist() == [2, 1]
    assert view.age.tolist() == [targets.ages[0, -1], targets.ages[0, -2]]


def test_places_count_the_real_targets_of_each_slate() -> None:
    view, _ = small_view()

    for slate in range(int(view.slate.max()) + 1):
        places = view.place[view.slate == slate]
        assert places.tolist() == list(range(len(places)))
        assert set(view.size[view.slate == slate]) == {len(places)}


def test_views_without_histories_have_no_matches() -> None:
    events = make_events([[Event(150, 2), Event(150, 3)]], num_items=4)
    slates = find_slates(events, "train", min_events=0, max_events=8)
    source = BatchSource(events, None, slate_events=8, per_positive=1)

    batch, targets = source.batch(slates, np.arange(1), np.random.default_rng(0))
    view = view_of(batch, targets, [np.arange(4)])

    assert view.counts.tolist() == [[0], [0]]
    assert view.age.tolist() == view.length.tolist() == [0, 0]
