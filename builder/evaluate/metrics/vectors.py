"""Metrics of each slate from predictions of targets, for logs whose slates hold events and drawn negatives."""

import numpy as np
import torch
from numpy.typing import NDArray

from builder.evaluate.metrics.pooled import Pooled, group_aucs, placements, reliability
from builder.evaluate.predict import Predictions
from builder.evaluate.slate_evaluation import Vectors


def prediction_vectors(predictions: Predictions) -> Vectors:
    """Metrics of each slate that has a target: the vectors of `evaluate_slates`, without those of whole pools.

    `user_auc` and `user_targets` are those of all targets of a user, at its first slate; NaN and 0 at its others.
    """
    slate, first, place = np.unique(predictions.slate, return_index=True, return_inverse=True)
    pooled = _pooled(predictions, place)
    aucs, size = group_aucs(pooled.logit, pooled.label, pooled.slate)
    won, lost = placements(pooled, len(slate))
    p = np.clip(predictions.probability, 1e-7, 1 - 1e-7)
    loss = -np.where(predictions.label > 0, np.log(p), np.log1p(-p))
    user = predictions.user[first]
    return {
        **_user_vectors(predictions, user),
        "gauc": aucs.numpy(),
        "log_loss": np.bincount(place, loss) / size.numpy(),
        "slate": slate,
        "user": user,
        "history": predictions.history[first],
        "targets": size.numpy(),
        "positives": np.bincount(place, predictions.label).astype(np.int64),
        "won": won.numpy(),
        "lost": lost.numpy(),
    }


def _user_vectors(predictions: Predictions, user: NDArray[np.integer]) -> Vectors:
    pooled = _pooled(predictions, predictions.user)
    aucs, size = group_aucs(pooled.logit, pooled.label, pooled.slate)
    place = np.unique(user, return_index=True)[1]
    auc, targets = np.full(len(user), np.nan), np.zeros(len(user), np.int64)
    auc[place], targets[place] = aucs.numpy(), size.numpy()
    return {"user_auc": auc, "user_targets": targets}


def reliability_of(predictions: Predictions) -> list[dict[str, float]]:
    """Predicted against observed rates (`pooled.reliability`)."""
    pooled = _pooled(predictions, predictions.slate)
    return reliability(pooled.logit.logit(1e-12), pooled.label)


def _pooled(predictions: Predictions, slate: np.ndarray) -> Pooled:
    """With probabilities in the place of logits: the order is the same."""
    probability = np.nan_to_num(predictions.probability, nan=0.5)
    return Pooled(
        torch.from_numpy(probability), torch.from_numpy(predictions.label), torch.from_numpy(slate)
    )
