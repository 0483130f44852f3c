"""Predictions of a model for the targets of some slates, and what is measured on them."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from builder.dataset.batches import BatchSource, Slates
from builder.evaluate.history_matches import HistoryMatches, find_matches, join_matches
from builder.evaluate.metrics import measure
from builder.ingest.events import Events
from builder.progress import Progress, silent
from models.base import CtrModel
from models.batch import Batch

logger = logging.getLogger(__name__)

EVALUATION_SLATES = 96
"""Slates per evaluation batch."""
SEED = 1
"""Seed of the negatives drawn for evaluation: every model and training seed is measured on the same ones."""


@dataclass(frozen=True)
class Predictions:
    """Predictions for the real targets of some slates, [targets] each.

    Attributes:
        probability: click probability; [targets, T] where the forward returns T logits for each target.
        label: 1 for a click, else 0.
        user: index of the user.
        event: index of the event that the target is; -1 for a drawn negative.
        history: number of events in the history that the model read.
        matches: events of that history that share the target's keys; None where no keys were given.
    """

    probability: NDArray[np.float64]
    label: NDArray[np.float32]
    user: NDArray[np.int64]
    event: NDArray[np.int64]
    history: NDArray[np.int64]
    matches: HistoryMatches | None = None

    def for_metrics(self) -> tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.int64]]:
        """Probability, label and user: the arguments of `measure`."""
        return self.probability, self.label, self.user


Forward = Callable[[CtrModel, Batch], Tensor]


def served(model: CtrModel, batch: Batch) -> Tensor:
    """Logits of the graph that the service runs."""
    logits: Tensor = model(batch.user, batch.context, batch.slate)
    return logits


def trained(model: CtrModel, batch: Batch) -> Tensor:
    """Logits of the graph that training fitted."""
    return model.train_forward(batch.user, batch.context, batch.slate).logits


def predict(
    model: CtrModel,
    source: BatchSource,
    slates: Slates,
    forward: Forward = served,
    progress: Progress = silent,
    keys: Sequence[NDArray[np.integer]] = (),
) -> Predictions:
    """Predict every target of `slates`.

    Args:
        model: switched to evaluation mode.
        source: makes the batches.
        slates: what to predict.
        forward: makes the logits: `served` or `trained`.
        progress: called after every batch.
        keys: arrays by catalogue row, [V] each; given, the history matches of the targets are found too.
    """
    columns: list[tuple[NDArray[Any], ...]] = []
    matches = []
    model.eval()
    total = -(-len(slates) // EVALUATION_SLATES)
    epoch = source.epoch(slates, EVALUATION_SLATES, np.random.default_rng(SEED), shuffle=False)
    with torch.inference_mode():
        for done, (batch, targets) in enumerate(epoch, 1):
            probability = forward(model, batch).double().sigmoid().numpy()
            mask = targets.mask
            per_user = (targets.user, (targets.history > 0).sum(1))
            user, length = (np.broadcast_to(x[:, None], mask.shape)[mask] for x in per_user)
            columns.append(
                (probability[mask], targets.label[mask], user, targets.event[mask], length)
            )
            if keys:
                matches.append(find_matches(keys, targets, source.events.schema.recent_length))
            progress(done, total)
    probability, label, user, event, history = (
        np.concatenate(column) for column in zip(*columns, strict=True)
    )
    joined = join_matches(matches) if matches else None
    return Predictions(probability, label, user, event, history, joined)


def oracle_auc(events: Events, predictions: Predictions) -> float | None:
    """AUC of the probabilities that the labels were drawn with: what a perfect model reaches; None if unknown."""
    if events.oracle is None:
        return None
    known = predictions.event >= 0
    truth = events.oracle[predictions.event[known]]
    label, user = predictions.label[known], predictions.user[known]
    return measure(truth.astype(np.float64), label, user).auc


def auc_by_history(predictions: Predictions, length: int) -> dict[str, float]:
    """AUC by number of events in the history: "low-high" -> AUC; groups with a single label are left out."""
    edges = [edge for edge in (0, 100, 200, 400, 800, 1600) if edge < length]
    result = {}
    for low, high in zip(edges, [*edges[1:], length + 1], strict=True):
        chosen = (predictions.history >= low) & (predictions.history < high)
        if len(np.unique(predictions.label[chosen])) == 2:
            probability, label, user = predictions.for_metrics()
            metrics = measure(probability[chosen], label[chosen], user[chosen])
            result[f"{low}-{high - 1}"] = metrics.auc
    return result
