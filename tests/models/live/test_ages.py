"""When folded states measure ages from: a function of the window and of the build, for each kind of state."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.contract.age import age_buckets
from models.live.ages import Ages
from models.live.window import Window

CUT_S, GAP_S = 1_000_000, 3_600


def window(*ts_s: int) -> Window:
    newest_s = max([CUT_S, *ts_s])
    return Window(np.full(len(ts_s), 2), np.array(ts_s, np.int64), CUT_S, newest_s, 0)


def buckets(*seconds: int) -> list[int]:
    return [int(bucket) for bucket in age_buckets(np.array(seconds, np.int64))]


def test_the_newest_event_has_the_age_of_the_gap():
    ages = Ages(GAP_S)
    got = window(CUT_S - 50_000, CUT_S + 100, CUT_S + 7_000)

    assert ages.from_s(got) == CUT_S + 7_000 + GAP_S
    assert ages.latest(got, 4).tolist() == [0, *buckets(57_000 + GAP_S, 6_900 + GAP_S, GAP_S)]
    assert ages.latest(got, 1).tolist() == buckets(GAP_S)
    assert ages.latest(got, 0).tolist() == []


@pytest.mark.parametrize("newest_s", [CUT_S - 1, CUT_S])
def test_without_an_event_after_the_cut_ages_are_those_of_the_build(newest_s):
    """A late event must not move what the build knew: its record would differ from one of the same build with it."""
    for ages in (Ages(GAP_S), Ages(GAP_S, from_cut=True)):
        assert ages.from_s(window(5, newest_s)) == CUT_S
        assert ages.latest(window(5, newest_s), 2).tolist() == buckets(CUT_S - 5, CUT_S - newest_s)
    assert Ages(GAP_S).from_s(window()) == CUT_S


def test_sums_have_ages_that_no_later_event_moves():
    ages = Ages(GAP_S, from_cut=True)
    before, after = window(5, CUT_S + 1), window(5, CUT_S + 1, CUT_S + 90_000)
    assert ages.from_s(before) == ages.from_s(after) == CUT_S
    assert ages.latest(before, 2).tolist() == buckets(CUT_S - 5, GAP_S)
    assert ages.latest(after, 3).tolist() == buckets(CUT_S - 5, GAP_S, GAP_S)


@given(st.lists(st.integers(0, 2 * CUT_S), max_size=6), st.integers(0, 10**6), st.booleans())
def test_no_event_is_younger_than_the_gap_after_the_cut(ts_s, gap_s, from_cut):
    got = window(*sorted(ts_s))
    ages = Ages(gap_s, from_cut=from_cut).latest(got, len(ts_s))
    is_live = got.ts_s > CUT_S
    assert (ages[is_live] >= buckets(gap_s)[0]).all()
    assert (ages > 0).all()
