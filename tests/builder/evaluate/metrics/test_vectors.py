"""Metrics of slates from predictions, against loops."""

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from builder.evaluate.metrics.targets import measure
from builder.evaluate.metrics.vectors import prediction_vectors, reliability_of
from builder.evaluate.predict import Predictions


@pytest.fixture
def predictions() -> Predictions:
    rng = np.random.default_rng(0)
    slate = np.sort(rng.permutation(np.repeat(np.arange(40), 8))[:250])
    slate = slate[slate != 3]
    probability = np.round(rng.uniform(0.05, 0.95, len(slate)), 2)
    label = (rng.random(len(slate)) < probability).astype(np.float32)
    return Predictions(probability, label, slate // 2, slate, slate, 10 + slate)


def test_vectors_are_those_of_each_slate(predictions: Predictions) -> None:
    found = prediction_vectors(predictions)

    assert found["slate"].tolist() == [s for s in range(40) if s != 3]
    assert found["user"].tolist() == (found["slate"] // 2).tolist()
    assert found["history"].tolist() == (10 + found["slate"]).tolist()
    for place, slate in enumerate(found["slate"]):
        own = predictions.slate == slate
        label, probability = predictions.label[own], predictions.probability[own]
        assert found["targets"][place] == own.sum()
        assert found["positives"][place] == label.sum()
        assert found["log_loss"][place] == pytest.approx(
            log_loss(label, probability, labels=[0, 1])
        )
        if 0 < label.sum() < own.sum():
            assert found["gauc"][place] == pytest.approx(roc_auc_score(label, probability))
        else:
            assert np.isnan(found["gauc"][place])


def test_contributions_add_up_to_the_auc(predictions: Predictions) -> None:
    found, metrics = prediction_vectors(predictions), measure(*predictions.for_metrics())

    assert found["won"].sum() / metrics.positives == pytest.approx(metrics.auc)
    negatives = metrics.targets - metrics.positives
    assert found["lost"].sum() / negatives == pytest.approx(metrics.auc)


def test_aucs_of_users_add_up_to_gauc(predictions: Predictions) -> None:
    found, metrics = prediction_vectors(predictions), measure(*predictions.for_metrics())

    mixed = np.isfinite(found["user_auc"])
    weight = found["user_targets"][mixed]
    assert np.average(found["user_auc"][mixed], weights=weight) == pytest.approx(metrics.gauc)
    assert found["user_targets"].sum() == metrics.targets
    assert (found["user_targets"] > 0).sum() == len(np.unique(predictions.user))


def test_reliability_is_in_probabilities(predictions: Predictions) -> None:
    rows = reliability_of(predictions)

    low = np.sort(predictions.probability)[: rows[0]["targets"]]
    assert rows[0]["predicted"] == pytest.approx(low.mean())
    assert sum(row["targets"] for row in rows) == len(predictions.label)
