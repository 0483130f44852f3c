"""Orders and their agreement: against scipy, and by hand where scores tie."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau

from service.experiments.ranking import agreements, best, kendall_tau_b, ranks, top_overlap

# Few different values: most pairs tie.
TIED = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=60)


def columns(pairs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    left, right = np.array(pairs, np.float64).T
    return left, right


def tau_of_scipy(left: np.ndarray, right: np.ndarray) -> float | None:
    found = float(kendalltau(left, right).statistic)
    return None if math.isnan(found) else found


@given(pairs=TIED)
def test_tau_is_that_of_scipy_where_scores_tie(pairs: list[tuple[int, int]]):
    left, right = columns(pairs)
    assert kendall_tau_b(left, right) == pytest.approx(tau_of_scipy(left, right), abs=1e-12)


@pytest.mark.parametrize("num_candidates", [2, 3, 64, 1000, 5000])
def test_tau_is_that_of_scipy_on_long_slates(num_candidates: int):
    chance = np.random.default_rng(num_candidates)
    left = chance.random(num_candidates)
    right = left + chance.normal(0, 0.3, num_candidates)
    assert kendall_tau_b(left, right) == pytest.approx(tau_of_scipy(left, right), abs=1e-12)


def test_tau_by_hand():
    up = np.array([0.1, 0.2, 0.3])
    assert kendall_tau_b(up, up) == 1
    assert kendall_tau_b(up, -up) == -1
    # Of three pairs one ties on the right; both others agree: 2 / sqrt(3 * 2).
    tied = np.array([0.1, 0.5, 0.5])
    assert kendall_tau_b(up, tied) == kendall_tau_b(tied, up) == pytest.approx(2 / math.sqrt(6))


@pytest.mark.parametrize("left", [[0.5], [0.5, 0.5, 0.5]])
def test_tau_is_undefined_without_an_order(left: list[float]):
    right = np.arange(len(left), dtype=np.float64)
    assert kendall_tau_b(np.array(left), right) is None
    assert kendall_tau_b(right, np.array(left)) is None


def test_ties_are_ranked_alike_and_listed_in_request_order():
    scores = np.array([0.2, 0.9, 0.5, 0.9, 0.2, 0.2])
    order = best(scores, 5)
    assert order.tolist() == [1, 3, 2, 0, 4]
    assert ranks(scores[order]).tolist() == [1, 1, 3, 4, 4]


def test_overlap_counts_what_the_best_have_in_common():
    left = np.array([6.0, 5, 4, 3, 2, 1])
    right = np.array([1.0, 5, 6, 2, 3, 4])
    assert [top_overlap(left, right, k) for k in (1, 2, 3, 6, 100)] == [0, 1 / 2, 2 / 3, 1, 1]
    alike = np.zeros(6)
    assert top_overlap(left, alike, 2) == 1
    assert top_overlap(right, alike, 2) == 1 / 2


def test_every_pair_of_models_is_compared_once():
    scores = {name: np.arange(3.0) for name in ("a", "b", "c")}
    found = agreements(scores, 10)
    assert [one.models for one in found] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert {(one.kendall_tau, one.overlap) for one in found} == {(1.0, 1.0)}
    assert agreements({"a": np.arange(3.0)}, 10) == []
