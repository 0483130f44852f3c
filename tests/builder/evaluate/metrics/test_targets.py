"""Metrics against values computed by hand and against scikit-learn."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from builder.errors import StepError
from builder.evaluate.metrics.targets import BINS, calibration_error, grouped_auc, measure

targets = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 1), st.integers(0, 2)), min_size=2, max_size=60
)


def arrays(*columns):
    return tuple(np.array(column, float) for column in columns)


def test_all_metrics_of_four_targets_by_hand() -> None:
    """Of four (positive, negative) pairs three are in order; the users' AUCs are 1 and 1, with 2 targets each."""
    probability, label = arrays([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])

    found = measure(probability, label, np.array([7, 8, 7, 8]))

    assert found.auc == 0.75
    assert found.gauc == 1.0
    expected = -(math.log(0.9) + math.log(0.6) + math.log(0.35) + math.log(0.8)) / 4
    assert found.log_loss == pytest.approx(expected)
    assert found.pcoc == pytest.approx(1.65 / 2)
    assert found.ece == pytest.approx((0.1 + 0.4 + 0.65 + 0.2) / 4)  # one target a bin
    assert (found.targets, found.positives) == (4, 2)


def test_gauc_weighs_users_by_their_targets() -> None:
    """User 0: 3 targets, AUC 1/2. User 1: 2 targets, AUC 1."""
    probability, label = arrays([0.2, 0.5, 0.9, 0.1, 0.3], [0, 1, 0, 0, 1])

    assert grouped_auc(probability, label, np.array([0, 0, 0, 1, 1])) == (3 * 0.5 + 2 * 1.0) / 5


def test_gauc_leaves_out_users_of_one_class() -> None:
    probability, label = arrays([0.9, 0.1, 0.2, 0.3, 0.4], [1, 0, 1, 1, 0])

    found = grouped_auc(probability, label, np.array([0, 0, 1, 1, 2]))

    assert found == 1.0  # user 1 has only clicks, user 2 none


def test_gauc_does_not_exist_where_no_user_has_both() -> None:
    probability, label = arrays([0.9, 0.1], [1, 0])

    assert math.isnan(grouped_auc(probability, label, np.array([0, 1])))


def test_ties_count_one_half() -> None:
    probability, label = arrays([0.5, 0.5, 0.5, 0.7], [0, 1, 0, 0])

    found = measure(probability, label, np.zeros(4, int))

    assert found.gauc == pytest.approx((0.5 + 0.5 + 0) / 3)
    assert found.auc == pytest.approx(found.gauc)


@given(targets)
def test_gauc_is_the_weighted_mean_of_sklearns_auc(rows) -> None:
    probability, label, user = arrays(*zip(*rows, strict=True))
    probability /= 4  # five values: many ties
    total, weight = 0.0, 0
    for one in np.unique(user):
        chosen = user == one
        if len(set(label[chosen])) == 2:
            total += chosen.sum() * roc_auc_score(label[chosen], probability[chosen])
            weight += chosen.sum()
    assume(weight)

    assert grouped_auc(probability, label, user.astype(int)) == pytest.approx(total / weight)


@given(targets)
def test_gauc_of_one_user_is_the_auc(rows) -> None:
    probability, label, _ = arrays(*zip(*rows, strict=True))
    assume(len(set(label)) == 2)

    found = measure(probability / 4, label, np.zeros(len(rows), int))

    assert found.gauc == pytest.approx(found.auc)


def test_calibration_bins_have_equal_counts() -> None:
    """Two targets a bin: 0.25 twice, once clicked, is off by 0.25."""
    probability = np.repeat((np.arange(BINS) + 0.5) / BINS, 2)
    label = np.tile([0.0, 1.0], BINS)

    gaps = np.abs((np.arange(BINS) + 0.5) / BINS - 0.5)

    assert calibration_error(probability, label) == pytest.approx(gaps.mean())


def test_calibrated_predictions_have_no_error() -> None:
    probability = np.full(40, 0.5)
    label = np.tile([0.0, 1.0], 20)

    found = measure(probability, label, np.zeros(40, int))

    assert found.ece == 0.0
    assert found.pcoc == 1.0


def test_certain_and_wrong_predictions_have_a_finite_loss() -> None:
    probability, label = arrays([1.0, 0.0], [0, 1])

    assert measure(probability, label, np.zeros(2, int)).log_loss == pytest.approx(-math.log(1e-7))


@pytest.mark.parametrize("label", [[], [1.0, 1.0], [0.0]])
def test_one_class_is_refused(label) -> None:
    with pytest.raises(StepError, match=f"got {len(label)} targets of one class, expected both"):
        measure(np.full(len(label), 0.5), np.array(label), np.zeros(len(label), int))
