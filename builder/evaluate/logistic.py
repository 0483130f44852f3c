"""Logistic regression with weights and offsets, by Newton's method: for a few dozen features at most."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
STEPS = 50
"""Largest number of Newton steps; some ten are usual."""
HALVINGS = 60
"""Most halvings of a step that does not lower the loss."""
CLOSE = 1e-9
"""Newton's method ends when no coefficient moves by more than this."""


def fit_logistic(
    x: Floats,
    label: NDArray[np.floating],
    weight: NDArray[np.floating],
    offset: Floats,
    ridge: float,
) -> Floats:
    """Coefficients that minimise Σ weight · BCE(x · coefficients + offset, label) + ridge / 2 · |coefficients|².

    Args:
        x: features, [N, K]; a column of ones gives an intercept.
        label: 1 or 0, [N].
        weight: at least 0, [N].
        offset: added to the log odds, [N].
        ridge: above 0; keeps the solution finite where features separate the labels.

    Returns:
        The coefficients, [K].
    """
    coefficients: Floats = np.zeros(x.shape[1])
    loss = _loss(x, label, weight, offset, ridge, coefficients)
    for _ in range(STEPS):
        probability = 1 / (1 + np.exp(-np.clip(x @ coefficients + offset, -500, 500)))
        gradient = x.T @ (weight * (label - probability)) - ridge * coefficients
        curvature = (x.T * (weight * probability * (1 - probability))) @ x
        step = np.asarray(
            np.linalg.solve(curvature + ridge * np.eye(x.shape[1]), gradient), np.float64
        )
        # Where most probabilities are near 0 or 1 the curvature is tiny and a step is millions of times too long.
        for _ in range(HALVINGS):
            after = _loss(x, label, weight, offset, ridge, coefficients + step)
            if after < loss:
                break
            step /= 2
        else:
            break  # no step is better: only rounding is left
        coefficients, loss = coefficients + step, after
        if np.abs(step).max() < CLOSE:
            break
    return coefficients


def _loss(
    x: Floats,
    label: NDArray[np.floating],
    weight: NDArray[np.floating],
    offset: Floats,
    ridge: float,
    coefficients: Floats,
) -> float:
    logit = x @ coefficients + offset
    loss = np.logaddexp(0, logit) - label * logit
    return float((weight * loss).sum() + ridge / 2 * (coefficients**2).sum())
