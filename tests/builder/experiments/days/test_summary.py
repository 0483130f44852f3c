"""Tables of simulated days: which days they compare, and how far PCOC may be off."""

from typing import Any

import numpy as np
import pytest

from builder.evaluate.intervals import STUDENT
from builder.experiments.days.policies import FULL, KEPT
from builder.experiments.days.summary import _pcoc, days_of


def test_days_that_every_seed_has():
    have = {0: [1, 5, 10], 1: [1, 10]}
    scores: dict[tuple[str, int, int], dict[str, Any]] = {
        ("full", seed, day): {} for seed, days in have.items() for day in days
    }
    scores |= {("kept", seed, day): {} for seed in have for day in range(1, 11)}
    assert days_of(scores, FULL) == [1, 5, 10]
    assert days_of(scores, FULL, of_all=True) == [1, 10]
    assert days_of(scores, KEPT, of_all=True) == list(range(1, 11))


def test_pcoc_is_a_ratio_of_sums_with_an_interval_over_days():
    """Two seeds, three days, against the jackknife written out."""
    positives, pcocs = [10, 20, 30], [[1.0, 2.0, 0.5], [1.2, 1.0, 0.7]]
    scores = [
        {"pcoc": pcoc, "positives": many}
        for own in pcocs
        for pcoc, many in zip(own, positives, strict=True)
    ]
    predicted = [(a + b) * many for a, b, many in zip(*pcocs, positives, strict=True)]

    def ratio(days: list[int]) -> float:
        return float(sum(predicted[d] for d in days) / sum(2 * positives[d] for d in days))

    left_out = [ratio([1, 2]), ratio([0, 2]), ratio([0, 1])]
    deviation = np.sqrt(2 / 3 * sum((one - np.mean(left_out)) ** 2 for one in left_out))

    got, half = _pcoc(scores, 3)

    assert got == pytest.approx(ratio([0, 1, 2]))
    assert half == pytest.approx(STUDENT[1] * deviation)
    assert _pcoc(scores[:2], 2)[1] is None
