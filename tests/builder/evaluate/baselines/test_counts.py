"""The baseline: counts in the same history, fitted on one period and measured on another."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from builder.evaluate.baselines.base import BaselineModel, Describer, Samples, collect
from builder.evaluate.baselines.counts import count_features, fit_counts
from builder.evaluate.baselines.measure import measure_baselines
from builder.ingest.events import Events
from builder.ingest.split import Split
from models.batch import Batch, Context, Slate, User
from models.contract.schema import PADDING
from tests.builder.hand_made import Event, make_events, with_pools
from tests.builds import small_recipe

CATEGORIES = [2 + row % 3 for row in range(2, 20)]


def loyal_user(seed: int) -> list[Event]:
    """Each user buys three items repeatedly; only the user's own history shows which."""
    rng = np.random.default_rng(seed)
    loved = rng.choice(np.arange(2, 20), 3, replace=False)
    return [Event(second, int(rng.choice(loved))) for second in range(60)]


def loyal_log() -> Events:
    split = Split(train_from_s=20, validate_from_s=40, test_from_s=45, end_s=60)
    users = [loyal_user(seed) for seed in range(40)]
    return make_events(users, categories=CATEGORIES, length=12, split=split)


def batch_of(items, history, label, mask, places=0) -> Batch:
    """One batch, whose candidates have the field "place" where `places` is not 0."""
    none = torch.zeros(len(items), 0, dtype=torch.int64)
    tensors = [torch.from_numpy(np.asarray(part)) for part in (items, history, label, mask)]
    slate = Slate.of(tensors[0])
    if places:
        slate = Slate(slate.items, (slate.items % places + 2)[..., None])
    return Batch.unweighted(
        User(tensors[1], tensors[1] * 0 + 1, none),
        Context(none, none),
        slate,
        tensors[2].float(),
        tensors[3].bool(),
    )


def test_features_count_what_the_history_shares_with_the_target() -> None:
    events = make_events([[Event(10, 5)] * 3], categories=CATEGORIES)
    rng = np.random.default_rng(0)
    items, history = rng.integers(2, 20, (3, 4)), rng.integers(2, 20, (3, 9))
    history[0, :5] = PADDING
    history[1] = PADDING
    mask = rng.random((3, 4)) < 0.7
    label = rng.integers(0, 2, (3, 4))
    batch = batch_of(items, history, label, mask, places=4)

    found = collect([batch], Describer(events), count_features([6]))

    expected = []
    for row, column in np.argwhere(mask):
        item = items[row, column]
        past = [event for event in history[row] if event != PADDING]
        same_item = sum(event == item for event in past)
        same_category = sum(event % 3 == item % 3 for event in past)
        popularity = 3 if item == 5 else 0
        place = np.arange(6) == item % 4 + 2
        expected.append([*np.log1p([popularity, same_item, same_category]), *place])
    assert found.x == pytest.approx(np.array(expected))
    assert found.label.tolist() == label[mask].tolist()
    assert found.weight.tolist() == [1.0] * mask.sum()


def test_the_fit_is_corrected_for_sampling() -> None:
    """Of 20,000 targets every tenth negative is kept, with the offset log 10: the log odds are those of all."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20_000, 2))
    truth = x @ [1.0, -0.5] - 3
    label = (rng.random(len(x)) < 1 / (1 + np.exp(-truth))).astype(float)
    kept = (label > 0) | (rng.random(len(x)) < 0.1)
    ones = np.ones(kept.sum())

    score = fit_counts(Samples(x[kept], label[kept], ones, ones * np.log(10)))

    assert np.abs(score(x) - truth).mean() < 0.1


def test_counts_decide_where_users_are_loyal() -> None:
    """Negatives are never items of the user, so the item's own count separates the classes but for first purchases."""
    events, recipe = loyal_log(), small_recipe()
    recipe = replace(recipe, negatives=replace(recipe.negatives, exclude="ever"))

    found = measure_baselines(events, recipe)

    assert found.counts.auc > 0.95
    assert found.counts.targets > 1_000
    assert found.vectors["counts"]["targets"].sum() == found.counts.targets
    assert sum(row["targets"] for row in found.to_dict()["trees"]["reliability"]) > 1_000


def test_the_items_own_count_separates_the_classes() -> None:
    events = loyal_log()
    describer, features = Describer(events), count_features([])
    batches = []
    for seed in range(2):
        rng = np.random.default_rng(seed)
        own = np.stack([events.item[first : first + 12] for first in events.offsets[:-1]])
        others = [rng.choice(np.setdiff1d(np.arange(2, 20), items)) for items in own]
        items = np.stack([own[:, 0], others], 1).astype(np.int64)
        label = np.tile([1, 0], (len(items), 1))
        batches.append(batch_of(items, own.astype(np.int64), label, label >= 0))

    model = BaselineModel(
        describer, features, fit_counts(collect(batches[:1], describer, features))
    )
    logit = model(batches[1].user, batches[1].context, batches[1].slate)

    assert (logit[:, 0].min() > logit[:, 1].max()).item()


def test_the_baselines_are_the_same_each_time() -> None:
    events, recipe = loyal_log(), small_recipe()

    assert all(
        one == other for one, other in pairwise(measure_baselines(events, recipe) for _ in range(2))
    )


def test_baselines_of_a_log_with_pools_are_measured_on_whole_pools() -> None:
    split = Split(train_from_s=20, validate_from_s=40, test_from_s=45, end_s=60)
    users = [loyal_user(seed) for seed in range(40)]
    rng = np.random.default_rng(0)
    pools = [
        dict.fromkeys(rng.permutation(np.arange(2, 20))[:12].tolist(), 2 + n) for n in range(5)
    ]
    log = make_events(users, categories=CATEGORIES, length=12, split=split)
    events = with_pools(log, pools, rng.integers(0, 5, len(log.item)).tolist())

    found = measure_baselines(events, small_recipe())

    assert found.counts.targets == found.trees.targets == 40 * 15 * 12
    assert found.counts.slate_gauc is not None
    assert found.counts.slate_gauc > 0.9
    assert 0.8 < found.counts.pcoc < 1.25
    assert 0.8 < found.trees.pcoc < 1.25
