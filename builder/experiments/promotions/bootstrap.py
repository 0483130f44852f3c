"""Percentile bootstrap of means over visits, with households drawn: the visits of one household are not independent."""

import numpy as np
from numpy.typing import NDArray

DRAWS = 2000
LOW, HIGH = 0.025, 0.975


def bootstrap_mean(
    values: NDArray[np.float64], household: NDArray[np.int64]
) -> tuple[float, float, float]:
    """Mean over visits and its 95 % interval.

    Args:
        values: of each visit; NaN leaves the visit out.
        household: of each visit.

    Returns:
        Mean, lower end, upper end; NaN without any value.
    """
    is_finite = np.isfinite(values)
    if not is_finite.any():
        return (float("nan"),) * 3
    values, household = values[is_finite], household[is_finite]
    _, index = np.unique(household, return_inverse=True)
    total, count = np.bincount(index, values), np.bincount(index)
    drawn = np.random.default_rng(0).integers(len(total), size=(DRAWS, len(total)))
    means = total[drawn].sum(1) / count[drawn].sum(1)
    low, high = np.quantile(means, (LOW, HIGH))
    return float(values.mean()), float(low), float(high)
