"""Validation's AUC with weights, and GAUC per slate, against definitions by pairs."""

import numpy as np
import pytest

from builder.train.validation import slate_auc, weighted_auc


def by_pairs(score, label, weight) -> float:
    won = total = 0.0
    for i in np.flatnonzero(label == 1):
        for j in np.flatnonzero(label == 0):
            pair = weight[i] * weight[j]
            won += pair * (0.5 * (score[i] == score[j]) + (score[i] > score[j]))
            total += pair
    return won / total


@pytest.fixture
def drawn() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    score = rng.integers(0, 8, 120).astype(float)  # with ties
    label = (rng.random(120) < 0.3).astype(float)
    return score, label, rng.random(120) + 0.1, np.sort(rng.integers(0, 12, 120)).astype(float)


def test_weighted_auc_is_the_share_of_weighted_pairs(drawn) -> None:
    score, label, weight, _ = drawn
    assert weighted_auc(score, label, weight) == pytest.approx(by_pairs(score, label, weight))


def test_slate_auc_is_the_mean_over_slates(drawn) -> None:
    score, label, _, slate = drawn
    own = []
    for number in np.unique(slate):
        here = slate == number
        if 0 < label[here].sum() < here.sum() and here.sum() > 2:
            own.append(by_pairs(score[here], label[here], np.ones(here.sum())))
    assert len(own) > 6
    assert slate_auc(score, label, slate) == pytest.approx(np.mean(own))


def test_slates_of_one_target_have_no_auc(drawn) -> None:
    score, label, *_ = drawn
    assert slate_auc(score, label, np.arange(len(score), dtype=float)) is None


def test_a_diverged_model_gives_nan(drawn) -> None:
    score, label, weight, slate = drawn
    score[0] = np.nan
    assert np.isnan(weighted_auc(score, label, weight))
    assert np.isnan(slate_auc(score, label, slate) or 0)
