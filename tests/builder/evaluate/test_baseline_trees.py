"""The boosted-trees baseline: it uses ages, which counts lack, and gives the same result in each run."""

from collections.abc import Iterator

import numpy as np
import pytest

from builder.dataset.batches import Targets
from builder.evaluate.baseline_counts import count_features, measure_counts
from builder.evaluate.baseline_trees import measure_trees, tree_features
from builder.ingest.events import Events
from models.contract.age import NUM_AGES
from tests.builder.hand_made import Event, make_events

USERS, LENGTH, RECENT = 600, 8, 2


def log() -> Events:
    return make_events([[Event(10, 2)]], categories=range(2, 20), length=LENGTH, recent=RECENT)


def where_recency_decides(seed: int) -> Iterator[Targets]:
    """Each history has the target once; it is clicked if that event is recent; 10% of the labels are flipped."""
    rng = np.random.default_rng(seed)
    item = rng.integers(2, 20, (USERS, 1))
    history = 2 + (item - 2 + rng.integers(1, 18, (USERS, LENGTH))) % 18  # anything else
    ages = np.sort(rng.integers(1, NUM_AGES, (USERS, LENGTH)))[:, ::-1]
    place = rng.integers(0, LENGTH, (USERS, 1))
    np.put_along_axis(history, place, item, 1)
    is_late = np.take_along_axis(ages, place, 1) < NUM_AGES // 2
    label = (is_late ^ (rng.random((USERS, 1)) < 0.1)).astype(np.float32)
    mask = np.ones((USERS, 1), bool)
    yield Targets(
        np.arange(USERS) % 20,
        item,
        label,
        mask,
        history,
        ages,
        np.full((USERS, 1), -1),
        mask * np.float32(1),
        np.arange(USERS),
    )


def test_trees_are_better_where_recency_decides_and_the_same_each_time() -> None:
    events = log()

    counts = measure_counts(events, where_recency_decides(0), where_recency_decides(2))
    one, other = (
        measure_trees(events, *(where_recency_decides(seed) for seed in range(3))) for _ in range(2)
    )

    assert counts.auc < 0.6
    assert one.auc > 0.8
    assert one == other
    assert one.targets == counts.targets == USERS


def test_features_are_counts_then_ages_with_never_missing() -> None:
    events, (targets,) = log(), where_recency_decides(0)
    targets.history[0], targets.items[0] = 2, 3

    features = tree_features(events, targets)

    counted = count_features(events, targets)
    keys = counted.shape[1] - 1
    assert features.shape == (USERS, 1 + 3 * keys)
    assert np.array_equal(features[:, : 1 + keys], counted)
    age = features[:, 1 + 2 * keys :]
    assert np.isnan(age[0]).all()
    assert not np.isnan(age[1:]).any()
    place = (targets.history == targets.items).argmax(1)
    assert age[1:, 0] == pytest.approx(targets.ages[np.arange(USERS), place][1:])
