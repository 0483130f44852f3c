"""Age buckets rise with age, stay in bounds, and have the documented limits."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.contract.age import NUM_AGES, age_buckets, bucket_days
from models.contract.schema import PADDING

DAY_S = 86_400
seconds = st.lists(st.integers(-(10**10), 10**10), min_size=1, max_size=50)


@given(seconds)
def test_buckets_rise_with_age_and_are_never_padding(values: list[int]):
    ages = np.sort(np.array(values))
    kept = ages.copy()
    buckets = age_buckets(ages)
    assert buckets.dtype == np.int64
    assert (np.diff(buckets) >= 0).all()
    assert buckets.min() > PADDING
    assert buckets.max() < NUM_AGES
    assert (ages == kept).all()


def test_a_negative_age_counts_as_zero():
    assert age_buckets(np.array([-5, 0])).tolist() == [1, 1]


def test_a_day_differs_from_fifteen_hours_and_from_two_days():
    hours = np.array([15, 24, 48])
    assert len(set(age_buckets(hours * 3600).tolist())) == 3


def test_around_a_day_buckets_begin_and_end_where_documented():
    """17 to 24 hours and 24 to 34 hours, within a third of an hour."""
    hours = np.array([16.7, 17.3, 23.9, 24.4, 33.8, 34.4])
    first, *others = age_buckets((hours * 3600).astype(np.int64)).tolist()
    assert [bucket - first for bucket in others] == [1, 1, 2, 2, 3]


def test_the_last_bucket_begins_after_decades():
    years = np.array([5, 25, 35, 1000])
    assert (age_buckets(years * 365 * DAY_S) == NUM_AGES - 1).tolist() == [False, False, True, True]


def test_the_days_of_a_bucket_are_within_its_limits():
    days = bucket_days()
    assert days.dtype == np.float32
    assert days[PADDING] == 0
    inside = np.round(days[1:].astype(np.float64) * DAY_S).astype(np.int64)
    assert age_buckets(inside).tolist() == list(range(1, NUM_AGES))
