"""Metrics of each slate against loops over pairs and against scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss, ndcg_score

from builder.evaluate.metrics.groups import AGES
from builder.evaluate.metrics.slates import (
    NO_EVENT,
    age_group_table,
    latest_ages,
    measure_slates,
    repeats,
    sampled_auc,
)

SLATES, CANDIDATES = 20, 50


def pairs_won(positive: np.ndarray, negative: np.ndarray) -> float:
    """AUC by a loop over pairs; NaN without pairs."""
    won = [1.0 if p > n else 0.5 if p == n else 0.0 for p in positive for n in negative]
    return float(np.mean(won)) if won else float("nan")


@pytest.fixture
def scored() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits with ties, labels, real candidates, repeats; slate 0 has no positive, slate 1 no negative."""
    rng = np.random.default_rng(0)
    logit = np.round(rng.normal(size=(SLATES, CANDIDATES)), 1).astype(np.float32)
    label = (rng.random((SLATES, CANDIDATES)) < 0.1).astype(np.float32)
    label[:, 0] = 1
    label[0], label[1] = 0, 1
    real = np.arange(CANDIDATES) < rng.integers(20, CANDIDATES + 1, (SLATES, 1))
    repeat = rng.random((SLATES, CANDIDATES)) < 0.5
    return tuple(map(torch.from_numpy, (logit, label * real, real, repeat)))  # type: ignore[return-value]


def test_gaucs_are_what_a_loop_over_pairs_finds(scored) -> None:
    found = measure_slates(*scored)
    for s, (p, y, real, repeat) in enumerate(zip(*(part.numpy() for part in scored), strict=True)):
        low = real & (y == 0)
        for name, high, other in (
            ("gauc", y > 0, low),
            ("gauc_repeat", (y > 0) & repeat, low),
            ("gauc_new", (y > 0) & ~repeat, low),
            ("gauc_inside", (y > 0) & repeat, low & repeat),
        ):
            expected = pairs_won(p[high], p[other])
            assert getattr(found, name)[s].item() == pytest.approx(
                expected, abs=1e-6, nan_ok=True
            ), name


def test_share_of_negatives_below_each_positive(scored) -> None:
    logit, label, real, _ = scored
    above = measure_slates(*scored).above
    assert above.isnan().equal(~(label > 0) | (label == real).all(1, keepdim=True))
    for s, c in torch.nonzero(label[2:] > 0)[:20].tolist():
        row = s + 2
        low = logit[row][real[row] & (label[row] == 0)].numpy()
        expected = pairs_won(logit[row, c : c + 1].numpy(), low)
        assert above[row, c].item() == pytest.approx(expected, abs=1e-6)


def test_log_loss_is_that_of_the_real_candidates(scored) -> None:
    logit, label, real, _ = scored
    found = measure_slates(*scored).log_loss
    for s in range(2, SLATES):
        y, p = label[s][real[s]].numpy(), logit[s][real[s]].double().sigmoid().numpy()
        assert found[s].item() == pytest.approx(log_loss(y, p), abs=1e-6)


@pytest.mark.parametrize("candidates", [60, 7])
def test_ndcg_and_recall_without_ties(candidates: int) -> None:
    rng = np.random.default_rng(1)
    logit = torch.from_numpy(
        rng.permutation(10 * candidates).reshape(10, candidates).astype(np.float32)
    )
    label = torch.from_numpy((rng.random((10, candidates)) < 0.3).astype(np.float32))
    label[:, 0] = 1
    found = measure_slates(logit, label, torch.ones_like(label, dtype=torch.bool), label > 0)
    for s in range(10):
        expected = ndcg_score(label[s : s + 1], logit[s : s + 1], k=10)
        assert found.ndcg[s].item() == pytest.approx(expected, abs=1e-5)
        top = label[s][logit[s].argsort(descending=True)[:10]]
        assert found.recall[s].item() == pytest.approx(float(top.sum() / label[s].sum()))


def test_tied_candidates_share_their_places() -> None:
    """Mean over many random orders of equal logits."""
    rng = np.random.default_rng(2)
    logit = torch.from_numpy(rng.integers(0, 4, (3, 30)).astype(np.float32))
    label = torch.from_numpy((rng.random((3, 30)) < 0.2).astype(np.float32))
    real = torch.ones(3, 30, dtype=torch.bool)
    found = measure_slates(logit, label, real, real)
    noise = torch.from_numpy(rng.random((4_000, 3, 30)).astype(np.float32)) / 2
    broken = measure_slates(
        (logit + noise).flatten(0, 1), *(part.repeat(4_000, 1) for part in (label, real, real))
    )
    for name in ("ndcg", "recall"):
        means = getattr(broken, name).reshape(4_000, 3).mean(0)
        assert torch.allclose(getattr(found, name), means, atol=0.02), name


def test_padding_changes_no_metric(scored) -> None:
    padded = [torch.nn.functional.pad(part, (0, 9)) for part in scored]
    padded[0][:, -9:] = 99.0
    alone, wide = measure_slates(*scored), measure_slates(*padded)
    for name in ("gauc", "gauc_inside", "log_loss", "ndcg", "recall"):
        assert torch.allclose(getattr(alone, name), getattr(wide, name), equal_nan=True), name


def test_a_slate_without_positives_has_a_loss_only() -> None:
    real = torch.ones(1, 5, dtype=torch.bool)
    found = measure_slates(torch.randn(1, 5), torch.zeros(1, 5), real, real)
    assert all(getattr(found, name).isnan().all() for name in ("gauc", "recall", "ndcg"))
    assert found.log_loss.isfinite().all()


def test_sampled_auc_leaves_out_candidates_of_weight_0(scored) -> None:
    logit, label, _, _ = scored
    weight = torch.ones_like(label)
    weight[2, 0] = weight[2, 3] = 0
    found = sampled_auc(logit, label, weight)
    p, y, there = logit[2].numpy(), label[2].numpy(), weight[2].numpy() > 0
    assert found[2].item() == pytest.approx(pairs_won(p[there & (y > 0)], p[there & (y == 0)]))
    assert found[0].isnan()


def test_ages_and_repeats_are_those_of_the_latest_event() -> None:
    history = torch.tensor([[0, 4, 7, 4], [0, 0, 0, 0]])
    ages = torch.tensor([[0, 20, 12, 5], [0, 0, 0, 0]])
    items = torch.tensor([[4, 7, 3], [4, 0, 1]])
    found = latest_ages(items, history, ages, 9)
    assert found.tolist() == [[5, 12, NO_EVENT], [NO_EVENT] * 3]
    assert repeats(items, history, 9).tolist() == (found != NO_EVENT).tolist()
    table = age_group_table(torch.device("cpu"))
    assert AGES[table[NO_EVENT]] == "never"
    assert AGES[table[1]] == "under 1 day"
