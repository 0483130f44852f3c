"""Intervals over households, and paired differences."""

import numpy as np
import pytest

from builder.experiments.promotions.bootstrap import bootstrap_mean
from builder.experiments.promotions.comparison import Trainings, paired, seed_interval
from builder.experiments.promotions.prepared import Prepared


def _row(label: str, visits: np.ndarray, gauc: np.ndarray) -> Trainings:
    return Trainings(label, ({},), ({"visit": visits, "gauc": gauc},))


def test_the_interval_grows_with_the_likeness_of_a_household_s_visits():
    rng = np.random.default_rng(0)
    household = np.repeat(np.arange(40), 25)
    shared = rng.normal(size=40)[household]
    mean, low, high = bootstrap_mean(shared, household)
    assert low < mean < high
    expected = 2 * 1.96 * np.std(shared) / 40**0.5
    assert high - low == pytest.approx(expected, rel=0.15)
    _, low_apart, high_apart = bootstrap_mean(rng.permutation(shared), household)
    assert high_apart - low_apart < (high - low) / 3


def test_visits_without_a_value_do_not_count():
    values = np.array([1.0, np.nan, 3.0])
    assert bootstrap_mean(values, np.array([0, 1, 2]))[0] == 2.0
    assert np.isnan(bootstrap_mean(values * np.nan, np.array([0, 1, 2]))).all()


def test_a_difference_is_taken_visit_by_visit(prepared: Prepared):
    visits = prepared.part("test")[:60]
    gauc = np.random.default_rng(1).random(60)
    ahead, behind = _row("a", visits, gauc + 0.01), _row("b", visits, gauc)
    assert paired(ahead, behind, prepared, "gauc") == pytest.approx((0.01, 0.01, 0.01))
    with pytest.raises(ValueError, match="a: got other test visits than b, expected the same"):
        paired(ahead, _row("b", visits + 1, gauc), prepared, "gauc")


def test_one_seed_has_no_interval():
    assert np.isnan(seed_interval([0.9]))
    assert seed_interval([1.0, 2.0, 3.0]) == pytest.approx(4.303 / 3**0.5)
