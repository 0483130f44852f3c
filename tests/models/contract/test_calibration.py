"""Calibrations: bytes and back, what they do to log odds, and what is refused."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.contract.calibration import (
    Calibration,
    Isotonic,
    Temperature,
    calibration_from_bytes,
    calibration_to_bytes,
)

POINTS = Isotonic((-3.0, -1.0, 2.0), (-4.0, -0.5, 1.0))
logits = st.floats(-30, 30)


@pytest.mark.parametrize("calibration", [POINTS, Temperature(0.8, -0.25), Isotonic((0.1,), (0.2,))])
def test_bytes_and_back(calibration: Calibration) -> None:
    assert calibration_from_bytes(calibration_to_bytes(calibration)) == calibration


def test_temperature_is_a_scale_and_a_shift() -> None:
    found = Temperature(0.5, 1.0).log_odds(np.array([-2.0, 0.0, 4.0]))

    assert found.tolist() == [0.0, 1.0, 3.0]


@pytest.mark.parametrize(
    ("logit", "expected"),
    [(-3.0, -4.0), (-2.0, -2.25), (-1.0, -0.5), (0.5, 0.25), (2.0, 1.0), (-5.0, -6.0), (4.5, 3.5)],
)
def test_isotonic_is_linear_between_points_and_of_slope_1_beyond(
    logit: float, expected: float
) -> None:
    assert POINTS.log_odds(np.array([logit]))[0] == pytest.approx(expected)


@given(st.lists(logits, min_size=2, max_size=9), st.sampled_from([POINTS, Temperature(2.0, 3.0)]))
def test_the_order_of_candidates_is_kept(values: list[float], calibration: Calibration) -> None:
    found = calibration.log_odds(np.array(values))

    assert np.isfinite(found).all()
    order = np.argsort(values, kind="stable")
    assert (np.diff(found[order]) >= 0).all()


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"[]", "expected its fields"),
        (b"{", "Expecting"),
        (b'{"kind": "beta"}', "kind: got 'beta'"),
        (b'{"kind": "temperature", "scale": 1}', "expected its fields"),
        (b'{"kind": "temperature", "scale": 0, "shift": 0}', "scale above 0"),
        (b'{"kind": "temperature", "scale": 1, "shift": NaN}', "finite numbers"),
        (b'{"kind": "isotonic", "logits": [], "log_odds": []}', "finite numbers"),
        (b'{"kind": "isotonic", "logits": [1, 1], "log_odds": [0, 1]}', "strict rise"),
        (b'{"kind": "isotonic", "logits": [0, 1], "log_odds": [0]}', "expected as many"),
    ],
)
def test_anything_else_is_refused(raw: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        calibration_from_bytes(raw)


def test_a_point_at_infinity_is_refused() -> None:
    with pytest.raises(ValueError, match="log_odds: got"):
        Isotonic((0.0,), (math.inf,))
