"""Fits of E + a·x^(−b): how a loss falls with the size of a model or of its data.

Source: the form of Kaplan et al. (2001.08361) with an irreducible part E as in Hoffmann et al. (2203.15556). SUAN
(2508.15326) reports power laws with a high R²; its constants were not at hand.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

EXPONENTS = np.geomspace(0.01, 3.0, 400)
"""b is searched among these: for each, E and a are a linear fit, so no starting point is needed."""
LEAST_POINTS = 4
"""Three constants need three points; the fourth makes R² say something."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PowerLaw:
    """y = E + a·x^(−b).

    Attributes:
        floor: E, 0 or more.
        scale: a, 0 or more.
        exponent: b.
        r2: R² on the points that were fitted.
    """

    floor: float
    scale: float
    exponent: float
    r2: float

    def __call__(self, x: Floats | float) -> Floats:
        """Y at x."""
        return np.asarray(self.floor + self.scale * np.asarray(x, np.float64) ** -self.exponent)


def fit_power_law(x: Sequence[float], y: Sequence[float]) -> PowerLaw:
    """Least squares with E ≥ 0 and a ≥ 0.

    Raises:
        ValueError: fewer than `LEAST_POINTS` different x.
    """
    xs, ys = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if len(np.unique(xs)) < LEAST_POINTS:
        raise ValueError(
            f"x: got {len(np.unique(xs))} different values, expected at least {LEAST_POINTS}"
        )
    unit = float(np.exp(np.log(xs).mean()))  # x^(−b) near 1: well conditioned at any size
    fits = [_linear(b, (xs / unit) ** -b, ys) for b in EXPONENTS]
    error, floor, scale, b = min(fits)
    total = float(((ys - ys.mean()) ** 2).sum())
    return PowerLaw(floor, scale * unit**b, b, 1 - error / total if total else 1.0)


def _linear(b: float, z: Floats, y: Floats) -> tuple[float, float, float, float]:
    """Squared error, E, a and b, of y = E + a·z with neither below 0."""
    centred = z - z.mean()
    a = max(0.0, float(centred @ y / (centred @ centred)))
    floor = float(y.mean() - a * z.mean())
    if floor < 0:
        floor, a = 0.0, float(z @ y / (z @ z))
    return float(((y - floor - a * z) ** 2).sum()), floor, a, float(b)
