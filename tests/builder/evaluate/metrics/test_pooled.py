"""Metrics of all candidates together against those of `metrics.py` and loops."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from builder.evaluate.metrics.pooled import (
    Pooled,
    by_group,
    grouped_auc,
    overall,
    placements,
    reliability,
)
from builder.evaluate.metrics.targets import calibration_error, measure

SLATES = 30


@pytest.fixture
def pooled() -> Pooled:
    """Candidates with ties, not in the order of slates; slate 0 has no positive."""
    rng = np.random.default_rng(0)
    slate = rng.integers(0, SLATES, 2_000)
    label = (rng.random(2_000) < 0.1) & (slate > 0)
    logit = np.round(rng.normal(size=2_000) + label, 1) - 2
    return Pooled(
        torch.from_numpy(logit.astype(np.float32)),
        torch.from_numpy(label.astype(np.float32)),
        torch.from_numpy(slate),
    )


def test_overall_is_what_metrics_of_arrays_are(pooled: Pooled) -> None:
    user = torch.arange(SLATES) // 3
    found = overall(pooled, user)
    probability = pooled.logit.double().sigmoid().numpy()
    expected = measure(probability, pooled.label.numpy(), user[pooled.slate].numpy())
    for name in ("auc", "gauc", "log_loss", "pcoc", "targets", "positives"):
        assert found[name] == pytest.approx(getattr(expected, name), rel=1e-6), name


def test_calibration_error_without_ties() -> None:
    rng = np.random.default_rng(1)
    logit, label = rng.normal(size=500), (rng.random(500) < 0.3).astype(float)
    found = overall(
        Pooled(torch.tensor(logit), torch.tensor(label), torch.zeros(500, dtype=torch.int64)),
        torch.zeros(1, dtype=torch.int64),
    )
    assert found["ece"] == pytest.approx(calibration_error(1 / (1 + np.exp(-logit)), label))


def test_gauc_does_not_exist_where_no_group_has_both() -> None:
    assert np.isnan(grouped_auc(torch.rand(3), torch.tensor([1.0, 0, 0]), torch.tensor([0, 1, 1])))


def test_groups_of_one_class_are_shown(pooled: Pooled) -> None:
    group = (pooled.slate == 0).long()
    above = torch.where(pooled.label > 0, 0.25, torch.nan)
    found = by_group(pooled, above, group, ["others", "first", "nobody"])
    assert list(found) == ["others", "first"]
    assert found["first"]["auc"] is None
    assert found["first"]["slate_auc"] is None
    assert found["first"]["share"] == 0
    assert found["first"]["targets"] == int((pooled.slate == 0).sum())
    assert found["others"]["slate_auc"] == pytest.approx(0.25)
    chosen = pooled.slate != 0
    expected = measure(
        pooled.logit[chosen].double().sigmoid().numpy(),
        pooled.label[chosen].numpy(),
        np.zeros(int(chosen.sum()), int),
    )
    assert found["others"]["auc"] == pytest.approx(expected.auc)


def test_contributions_of_slates_add_up_to_the_auc(pooled: Pooled) -> None:
    won, lost = placements(pooled, SLATES)
    logit, label, slate = pooled.logit.numpy(), pooled.label.numpy(), pooled.slate.numpy()
    high, low = logit[label > 0], logit[label == 0]
    wins = (high[:, None] > low) + 0.5 * (high[:, None] == low)
    for s in range(SLATES):
        assert won[s].item() == pytest.approx(wins[slate[label > 0] == s].mean(1).sum())
        assert lost[s].item() == pytest.approx(wins[:, slate[label == 0] == s].mean(0).sum())
    assert won.sum().item() / len(high) == pytest.approx(wins.mean())
    assert lost.sum().item() / len(low) == pytest.approx(wins.mean())


def test_reliability_bins_hold_every_target_once() -> None:
    rng = np.random.default_rng(2)
    logit, label = torch.tensor(rng.normal(size=3_000)), torch.tensor(rng.random(3_000) < 0.2)
    rows = reliability(logit, label.double())
    assert sum(row["targets"] for row in rows) == 3_000
    assert sum(row["positives"] for row in rows) == int(label.sum())
    assert [row["from"] for row in rows] == [*np.arange(10) / 10, 0.99, 0.999]
    top = logit.argsort()[-3:]
    assert rows[-1]["predicted"] == pytest.approx(logit[top].sigmoid().mean().item())
    assert rows[-1]["observed"] == pytest.approx(label[top].double().mean().item())
    assert all(a["predicted"] <= b["predicted"] for a, b in pairwise(rows))
