"""The baseline: counts in the same history, fitted on one period and measured on another."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from builder.dataset.batches import Targets
from builder.evaluate.baseline_counts import collect, count_features, measure_counts
from builder.evaluate.baselines import measure_baselines
from builder.ingest.split import Split
from models.contract.schema import PADDING
from tests.builder.hand_made import Event, make_events
from tests.builds import small_recipe

CATEGORIES = [2 + row % 3 for row in range(2, 20)]


def loyal_user(seed: int) -> list[Event]:
    """Each user buys three items repeatedly; only the user's own history shows which."""
    rng = np.random.default_rng(seed)
    loved = rng.choice(np.arange(2, 20), 3, replace=False)
    return [Event(second, int(rng.choice(loved))) for second in range(60)]


def loyal_log():
    split = Split(train_from_s=20, validate_from_s=40, test_from_s=45, end_s=60)
    users = [loyal_user(seed) for seed in range(40)]
    return make_events(users, categories=CATEGORIES, length=12, split=split)


def test_features_count_what_the_history_shares_with_the_target() -> None:
    events = make_events([[Event(10, 5)] * 3], categories=CATEGORIES)
    rng = np.random.default_rng(0)
    items, history = rng.integers(2, 20, (3, 4)), rng.integers(2, 20, (3, 9))
    history[0, :5] = PADDING
    history[1] = PADDING
    mask = rng.random((3, 4)) < 0.7
    label = rng.integers(0, 2, (3, 4)).astype(np.float32)
    targets = Targets(
        np.arange(3),
        items,
        label,
        mask,
        history,
        history * 0,
        np.full((3, 4), -1),
        mask * np.float32(1),
        np.arange(3),
    )

    features, labels, users = collect([targets], lambda batch: count_features(events, batch))

    expected = []
    for row, column in np.argwhere(mask):
        item = items[row, column]
        past = [event for event in history[row] if event != PADDING]
        same_item = sum(event == item for event in past)
        same_category = sum(event % 3 == item % 3 for event in past)
        popularity = 3 if item == 5 else 0
        expected.append(np.log1p([popularity, same_item, same_category]))
    assert features == pytest.approx(np.array(expected))
    assert labels.tolist() == label[mask].tolist()
    assert users.tolist() == np.argwhere(mask)[:, 0].tolist()


def test_counts_decide_where_users_are_loyal() -> None:
    """Negatives are never items of the user, so the item's own count separates the classes but for first purchases."""
    events, recipe = loyal_log(), small_recipe()
    recipe = replace(recipe, negatives=replace(recipe.negatives, exclude="ever"))

    found = measure_baselines(events, recipe).counts

    assert found.auc > 0.95
    assert found.targets > 1_000


def test_the_items_own_count_separates_the_classes() -> None:
    events = loyal_log()
    batches: dict[str, list[Targets]] = {"train": [], "test": []}
    for seed, part in enumerate(batches):
        rng = np.random.default_rng(seed)
        for user in range(events.num_users):
            own = np.asarray(events.item[events.offsets[user] : events.offsets[user] + 12])
            items = np.array([[own[0], rng.choice(np.setdiff1d(np.arange(2, 20), own))]])
            label, mask = np.array([[1, 0]], np.float32), np.ones((1, 2), bool)
            batches[part].append(
                Targets(
                    np.array([user]),
                    items,
                    label,
                    mask,
                    own[None].astype(int),
                    own[None].astype(int) * 0,
                    items * 0 - 1,
                    mask * np.float32(1),
                    np.array([user]),
                )
            )

    metrics = measure_counts(events, iter(batches["train"]), iter(batches["test"]))

    assert metrics.auc == 1.0


def test_the_baselines_are_the_same_each_time() -> None:
    events, recipe = loyal_log(), small_recipe()

    assert all(
        one == other for one, other in pairwise(measure_baselines(events, recipe) for _ in range(2))
    )
