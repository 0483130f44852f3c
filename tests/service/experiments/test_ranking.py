"""Orders and their agreement: against scipy, and by hand where scores tie."""

import math
from itertools import permutations

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
    assert top_overlap(left, alike, 2) == pytest.approx(2 / 6)
    assert top_overlap(right, alike, 2) == pytest.approx(2 / 6)


@pytest.mark.parametrize(("top_k", "expected"), [(1, 0.1), (2, 0.2), (9, 0.9), (10, 1), (99, 1)])
def test_models_that_rank_nothing_overlap_by_chance_alone(top_k: int, expected: float):
    assert top_overlap(np.zeros(10), np.full(10, 0.5), top_k) == pytest.approx(expected)


@given(pairs=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=5))
def test_overlap_is_the_mean_over_all_ways_to_break_ties(pairs: list[tuple[int, int]]):
    left, right = columns(pairs)
    for top_k in range(1, len(pairs) + 1):
        shares = [
            len({*best_of(left, a, top_k)} & {*best_of(right, b, top_k)}) / top_k
            for a in permutations(range(len(pairs)))
            for b in permutations(range(len(pairs)))
        ]
        assert top_overlap(left, right, top_k) == pytest.approx(sum(shares) / len(shares))


def best_of(scores: np.ndarray, order: tuple[int, ...], top_k: int) -> list[int]:
    """The best k, ties in a given order."""
    return sorted(range(len(scores)), key=lambda place: (-scores[place], order[place]))[:top_k]


def test_every_pair_of_models_is_compared_once():
    scores = {name: np.arange(3.0) for name in ("a", "b", "c")}
    found = agreements(scores, 10)
    assert [one.models for one in found] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert {(one.kendall_tau, one.overlap) for one in found} == {(1.0, 1.0)}
    assert agreements({"a": np.arange(3.0)}, 10) == []
