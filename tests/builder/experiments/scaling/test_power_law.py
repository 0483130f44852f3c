"""Fits of power laws: planted constants come back, whatever the unit, and bad input is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.experiments.scaling.power_law import fit_power_law

SIZES = [1e3, 1e4, 1e5, 1e6, 1e7]


@given(st.floats(0.05, 1.5), st.floats(0, 1), st.floats(0.01, 10), st.floats(1e-3, 1e6))
def test_planted_constants_come_back(b: float, floor: float, scale: float, unit: float) -> None:
    x = [unit * size for size in SIZES]
    y = [floor + scale * (size / SIZES[0]) ** -b for size in SIZES]

    law = fit_power_law(x, y)

    assert law.r2 > 0.9999
    np.testing.assert_allclose(law(np.array(x)), y, atol=0.01 * scale)
    assert law.exponent == pytest.approx(b, rel=0.05)


def test_a_point_beyond_the_fit_is_foretold() -> None:
    y = [0.4 + 3 * size**-0.3 for size in SIZES]
    law = fit_power_law(SIZES[:-1], y[:-1])
    assert float(law(SIZES[-1])) == pytest.approx(y[-1], abs=1e-3)


def test_a_loss_that_rises_has_no_part_that_falls() -> None:
    law = fit_power_law(SIZES, [0.4, 0.5, 0.5, 0.6, 0.7])
    assert law.scale == 0
    assert law.floor == pytest.approx(0.54)
    assert law.r2 == pytest.approx(0)


def test_below_nothing_it_does_not_go() -> None:
    """A straight fit would have a floor below 0."""
    law = fit_power_law(SIZES, [1.0, 0.3, 0.1, 0.03, 0.0])
    assert law.floor == 0
    assert law.scale > 0


def test_noise_is_seen_in_r2() -> None:
    law = fit_power_law(SIZES, [0.6, 0.4, 0.6, 0.4, 0.5])
    assert law.r2 < 0.8


def test_too_few_points_are_refused() -> None:
    with pytest.raises(ValueError, match="got 3 different values, expected at least 4"):
        fit_power_law([1.0, 2.0, 2.0, 3.0], [1.0, 1.0, 1.0, 1.0])
