"""The boosted-trees baseline: it uses ages, which counts lack, and gives the same result in each run."""

import numpy as np
import pytest
import torch

from builder.evaluate.baselines.base import Describer, Samples, collect
from builder.evaluate.baselines.counts import count_features, fit_counts
from builder.evaluate.baselines.trees import fit_trees, tree_features
from builder.evaluate.metrics.targets import auc
from builder.ingest.events import Events
from models.batch import Batch, Context, Slate, User
from models.contract.age import NUM_AGES
from tests.builder.hand_made import Event, make_events

USERS, LENGTH, RECENT = 600, 8, 2


def log() -> Events:
    return make_events([[Event(10, 2)]], categories=range(2, 20), length=LENGTH, recent=RECENT)


def where_recency_decides(seed: int) -> Batch:
    """Each history has the target once; it is clicked if that event is recent; 10% of the labels are flipped."""
    rng = np.random.default_rng(seed)
    item = rng.integers(2, 20, (USERS, 1))
    history = 2 + (item - 2 + rng.integers(1, 18, (USERS, LENGTH))) % 18  # anything else
    ages = np.sort(rng.integers(1, NUM_AGES, (USERS, LENGTH)))[:, ::-1].copy()
    place = rng.integers(0, LENGTH, (USERS, 1))
    np.put_along_axis(history, place, item, 1)
    is_late = np.take_along_axis(ages, place, 1) < NUM_AGES // 2
    label = (is_late ^ (rng.random((USERS, 1)) < 0.1)).astype(np.float32)
    none = torch.zeros(USERS, 0, dtype=torch.int64)
    return Batch.unweighted(
        User(torch.from_numpy(history), torch.from_numpy(ages), none),
        Context(none, none),
        Slate.of(torch.from_numpy(item)),
        torch.from_numpy(label),
        torch.ones(USERS, 1, dtype=torch.bool),
    )


def test_trees_are_better_where_recency_decides_and_the_same_each_time() -> None:
    describer, counted = Describer(log()), count_features([])
    batches = [where_recency_decides(seed) for seed in range(3)]
    train, validate, test = (collect([batch], describer, tree_features) for batch in batches)
    x = collect(batches[2:], describer, counted).x

    counts = fit_counts(collect(batches[:1], describer, counted))(x)
    one, other = (fit_trees(train, validate, 0)(test.x) for _ in range(2))

    assert auc(counts, test.label) < 0.6
    assert auc(one, test.label) > 0.8
    assert np.array_equal(one, other)


def test_features_are_counts_then_ages_with_never_missing() -> None:
    describer, batch = Describer(log()), where_recency_decides(0)
    batch.user.history[0], batch.slate.items[0] = 2, 3

    features = collect([batch], describer, tree_features).x

    counted = collect([batch], describer, count_features([])).x
    keys = counted.shape[1] - 1
    assert features.shape == (USERS, 1 + 3 * keys)
    assert np.array_equal(features[:, : 1 + keys], counted)
    age = features[:, 1 + 2 * keys :]
    assert np.isnan(age[0]).all()
    assert not np.isnan(age[1:]).any()
    place = (batch.user.history == batch.slate.items).int().argmax(1)
    assert age[1:, 0] == pytest.approx(batch.user.ages[torch.arange(USERS), place][1:].numpy())


def test_trees_are_corrected_for_sampling() -> None:
    """Every tenth negative is kept, with the offset log 10: probabilities are those of all targets."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 5, (20_000, 2)).astype(float)
    label = (rng.random(len(x)) < 1 / (1 + np.exp(4 - x[:, 0]))).astype(float)
    kept = np.flatnonzero((label > 0) | (rng.random(len(x)) < 0.1))
    train, validate = (
        Samples(x[half], label[half], np.ones(len(half)), np.full(len(half), np.log(10)))
        for half in np.array_split(kept, 2)
    )

    score = fit_trees(train, validate, 0)

    assert (1 / (1 + np.exp(-score(x)))).sum() == pytest.approx(label.sum(), rel=0.1)
