"""Whole slates through a forward: one report whatever the batches, and a file of each slate's metrics."""

from pathlib import Path

import numpy as np
import pytest
import torch

from builder.evaluate.metrics.groups import history_groups
from builder.evaluate.slate_evaluation import (
    AGE_CUT,
    REPEAT_CUT,
    WholeSlates,
    choose_slates,
    evaluate_slates,
    load_vectors,
    save_vectors,
    size_groups,
)
from models.batch import Batch, Context, Slate, User

SLATES, CATALOGUE, LENGTH = 40, 60, 12


class Pools:
    """Slates of 5 to 30 candidates; the logit of an item is its number, and one user has two slates."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.sizes = rng.integers(5, 31, SLATES)
        self.items = [rng.permutation(np.arange(2, CATALOGUE))[:size] for size in self.sizes]
        self.labels = [
            (rng.random(size) < items / CATALOGUE / 2).astype(np.float32)
            for size, items in zip(self.sizes, self.items, strict=True)
        ]
        self.labels[3][:] = 0
        history = rng.integers(2, CATALOGUE, (SLATES, LENGTH))
        history[:, :4] = 0
        self.history = torch.from_numpy(history)
        self.ages = torch.from_numpy(np.sort(rng.integers(1, 50, history.shape))[:, ::-1].copy())

    def whole(self, chosen: np.ndarray) -> WholeSlates:
        width = int(self.sizes[chosen].max())
        items = np.zeros((len(chosen), width), np.int64)
        label = np.zeros(items.shape, np.float32)
        for row, slate in enumerate(chosen):
            items[row, : self.sizes[slate]] = self.items[slate]
            label[row, : self.sizes[slate]] = self.labels[slate]
        none = torch.zeros(len(chosen), 0, dtype=torch.int64)
        at = torch.from_numpy(chosen)
        batch = Batch.unweighted(
            User(self.history[at], self.ages[at] * (self.history[at] > 0), none),
            Context(none, none),
            Slate.of(torch.from_numpy(items)),
            torch.from_numpy(label),
            torch.from_numpy(items > 0),
        )
        return WholeSlates(batch, chosen, chosen // 2)


def forward(batch: Batch) -> torch.Tensor:
    return batch.slate.items / 20 - 3


@pytest.fixture(scope="module")
def pools() -> Pools:
    return Pools()


def test_the_report_does_not_depend_on_the_batches(pools: Pools) -> None:
    alone = [pools.whole(np.array([slate])) for slate in range(SLATES)]
    groups = [pools.whole(part) for part in size_groups(pools.sizes, 100)]
    assert len(groups) < SLATES

    report, vectors = evaluate_slates(forward, alone, CATALOGUE)
    other, others = evaluate_slates(forward, groups, CATALOGUE)

    assert report["test"] == pytest.approx(other["test"], rel=1e-6)
    assert report["cuts"].keys() == other["cuts"].keys()
    assert vectors["slate"].tolist() == others["slate"].tolist() == list(range(SLATES))
    for name, values in vectors.items():
        np.testing.assert_allclose(values, others[name], rtol=1e-5, err_msg=name)


def test_the_report_counts_what_the_pools_hold(pools: Pools) -> None:
    report, vectors = evaluate_slates(
        forward, [pools.whole(part) for part in size_groups(pools.sizes, 100)], CATALOGUE
    )
    positives = sum(label.sum() for label in pools.labels)
    assert report["test"]["targets"] == pools.sizes.sum()
    assert report["test"]["positives"] == positives
    assert report["test"]["slates"] == SLATES
    mixed = [0 < label.sum() < len(label) for label in pools.labels]
    assert report["test"]["mixed_slates"] == sum(mixed) < SLATES
    assert vectors["targets"].tolist() == pools.sizes.tolist()
    assert vectors["history"].tolist() == [LENGTH - 4] * SLATES
    for cut in (AGE_CUT, REPEAT_CUT):
        groups = report["cuts"][cut].values()
        assert sum(group["targets"] for group in groups) == pools.sizes.sum()
        assert sum(group["positives"] for group in groups) == positives
    repeat = sum(
        np.isin(items, history).sum()
        for items, history in zip(pools.items, pools.history.numpy(), strict=True)
    )
    assert report["cuts"][REPEAT_CUT]["bought before"]["targets"] == repeat
    assert report["cuts"][AGE_CUT]["never"]["targets"] == pools.sizes.sum() - repeat


def test_a_diverged_model_is_measured_as_one_that_knows_nothing(pools: Pools) -> None:
    report, _ = evaluate_slates(
        lambda batch: torch.full(batch.slate.items.shape, torch.nan),
        [pools.whole(np.arange(SLATES))],
        CATALOGUE,
    )
    assert report["test"]["auc"] == report["test"]["slate_gauc"] == 0.5


def test_vectors_are_written_whole_and_read_back(pools: Pools, tmp_path: Path) -> None:
    _, vectors = evaluate_slates(forward, [pools.whole(np.arange(SLATES))], CATALOGUE)
    save_vectors(vectors, tmp_path / "0.npz")
    found = load_vectors(tmp_path / "0.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["0.npz"]
    assert found.keys() == vectors.keys()
    for name, values in vectors.items():
        np.testing.assert_allclose(found[name], values, rtol=2.5e-4, err_msg=name)
    assert found["log_loss"].mean() == pytest.approx(vectors["log_loss"].mean(), rel=1e-4)


def test_a_file_of_4096_slates_is_small(tmp_path: Path) -> None:
    """As hard to compress as real metrics: 57% of the slates have positives, most of which no model ranks first."""
    rng = np.random.default_rng(0)
    mixed = rng.random(4096) < 0.57
    vectors = {
        name: np.where(mixed, rng.random(4096), np.nan)
        for name in ("gauc", "gauc_repeat", "gauc_new", "gauc_inside", "won")
    }
    vectors |= {
        name: np.where(mixed, np.maximum(0, rng.random(4096) - 0.7), np.nan)
        for name in ("ndcg", "recall")
    }
    vectors |= {name: rng.random(4096) for name in ("log_loss", "lost")}
    vectors |= {name: rng.integers(0, 2000, 4096) for name in ("user", "history", "targets")}
    vectors |= {"slate": np.sort(rng.permutation(20_000)[:4096]), "positives": 3 * mixed}
    save_vectors(vectors, tmp_path / "0.npz")
    assert (tmp_path / "0.npz").stat().st_size < 100_000


def test_groups_of_equal_size_hold_every_slate_once(pools: Pools) -> None:
    groups = list(size_groups(pools.sizes, 100))
    assert sorted(np.concatenate(groups).tolist()) == list(range(SLATES))
    assert all(pools.sizes[part].max() * len(part) <= 100 for part in groups)


def test_the_sample_of_slates_is_fixed() -> None:
    chosen = choose_slates(1_000, 50)
    assert chosen.tolist() == choose_slates(1_000, 50).tolist()
    assert len(set(chosen.tolist())) == 50
    assert (np.diff(chosen) > 0).all()
    assert choose_slates(5).tolist() == [0, 1, 2, 3, 4]


def test_history_groups_name_their_numbers() -> None:
    names, group = history_groups(np.array([0, 99, 100, 250]))
    assert names == ["0-99", "100-199", "200+"]
    assert group.tolist() == [0, 0, 1, 2]
