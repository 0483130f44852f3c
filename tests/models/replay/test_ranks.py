"""The distance of two rankings: 0 the same, 1 reversed, about two thirds for random ones; ties share their ranks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.replay.ranks import mid_ranks, rank_distance, top_overlap

SCORES = st.integers(1, 30).flatmap(
    lambda size: st.tuples(*[arrays(np.float64, size, elements=st.integers(-5, 5))] * 2)
)


@given(SCORES)
def test_the_distance_is_symmetric_between_0_and_1(scores) -> None:
    old, new = scores

    assert 0 <= rank_distance(old, new) <= 1
    assert rank_distance(old, new) == rank_distance(new, old)
    assert rank_distance(old, 3 * old + 1) == 0
    assert 0 <= top_overlap(old, new) <= 1


@pytest.mark.parametrize("size", [2, 3, 10, 11])
def test_a_reversed_order_is_at_distance_1(size: int) -> None:
    assert rank_distance(np.arange(float(size)), -np.arange(float(size))) == 1


def test_random_orders_are_at_two_thirds() -> None:
    rng = np.random.default_rng(0)
    drawn = [rank_distance(rng.random(100), rng.random(100)) for _ in range(200)]

    assert np.mean(drawn) == pytest.approx(2 / 3, abs=0.01)


def test_ties_share_their_ranks() -> None:
    assert mid_ranks(np.array([1.0, 3.0, 1.0, 0.0])).tolist() == [2.5, 1, 2.5, 4]
    assert rank_distance(np.zeros(4), np.arange(4.0)) == 0.5


@pytest.mark.parametrize("size", [0, 1])
def test_a_slate_without_an_order_has_no_distance(size: int) -> None:
    assert rank_distance(np.zeros(size), np.zeros(size)) == 0
    assert top_overlap(np.zeros(size), np.zeros(size)) == 1


def test_other_candidates_are_refused() -> None:
    with pytest.raises(ValueError, match="expected the same candidates"):
        rank_distance(np.zeros(2), np.zeros(3))
