"""Newton's method against scikit-learn, and where features separate the labels."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from builder.evaluate.logistic import fit_logistic


def test_coefficients_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 3))
    label = (rng.random(500) < 1 / (1 + np.exp(-(x @ [2.0, -1.0, 0.3])))).astype(float)
    weight = rng.uniform(0.5, 3, 500)

    found = fit_logistic(x, label, weight, np.zeros(500), ridge=2.0)

    model = LogisticRegression(C=1 / 2.0, fit_intercept=False, tol=1e-10).fit(
        x, label, sample_weight=weight
    )
    assert found == pytest.approx(model.coef_[0], abs=1e-4)


def test_an_offset_is_taken_off() -> None:
    rng = np.random.default_rng(1)
    x, offset = np.ones((4_000, 1)), rng.normal(size=4_000)
    label = (rng.random(4_000) < 1 / (1 + np.exp(-(offset - 0.7)))).astype(float)

    assert fit_logistic(x, label, np.ones(4_000), offset, ridge=1e-6)[0] == pytest.approx(
        -0.7, abs=0.1
    )


def test_rare_labels_with_an_offset_are_fitted_to_the_end() -> None:
    """Logits of a model, one positive in a thousand, of which sampling shows one in thirty.

    From 0, Newton's second step is 10⁸ times too long.
    """
    rng = np.random.default_rng(2)
    logit = rng.normal(-8, 2, 100_000)
    offset = np.full(len(logit), 3.6)
    label = (rng.random(len(logit)) < 1 / (1 + np.exp(-(1.1 * logit - 0.3 + offset)))).astype(float)
    x = np.column_stack([logit, np.ones(len(logit))])

    found = fit_logistic(x, label, np.ones(len(logit)), offset, ridge=1e-6)

    probability = 1 / (1 + np.exp(-(x @ found + offset)))
    assert np.abs(x.T @ (label - probability)).max() < 1e-3
    assert found == pytest.approx([1.1, -0.3], abs=0.3)


@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_separable_labels_have_a_finite_fit(scale: float) -> None:
    x = scale * np.column_stack([np.linspace(-1, 1, 50), np.ones(50)])
    label = (x[:, 0] > 0).astype(float)

    found = fit_logistic(x, label, np.ones(50), np.zeros(50), ridge=1e-3)

    assert np.isfinite(found).all()
    assert ((x @ found > 0) == (label > 0)).mean() > 0.9
