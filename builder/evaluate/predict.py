"""Predictions of a model for the targets of some slates, and what is measured on them."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from builder.dataset.batches import BatchSource, Slates
from builder.evaluate.history_matches import HistoryMatches, find_matches, join_matches
from builder.evaluate.metrics.targets import measure
from builder.ingest.events import Events
from builder.progress import Progress, silent
from models.base import CtrModel
from models.batch import Batch
from models.contract.calibration import Calibration

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
        slate: place of the slate among those that were predicted.
        event: index of the event that the target is; -1 for a drawn negative.
        history: number of events in the history that the model read.
        matches: events of that history that share the target's keys; None where no keys were given.
    """

    probability: NDArray[np.float64]
    label: NDArray[np.float32]
    user: NDArray[np.int64]
    slate: NDArray[np.int64]
    event: NDArray[np.int64]
    history: NDArray[np.int64]
    matches: HistoryMatches | None = None

    def for_metrics(self) -> tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.int64]]:
        """Probability, label and user: the arguments of `measure`."""
        return self.probability, self.label, self.user

    def calibrated(self, calibration: Calibration | None) -> "Predictions":
        """The same with calibrated probabilities; None changes nothing."""
        if calibration is None:
            return self
        p = np.clip(self.probability, 1e-15, 1 - 1e-15)
        log_odds = calibration.log_odds(np.log(p) - np.log1p(-p))
        return replace(self, probability=1 / (1 + np.exp(-log_odds)))


Forward = Callable[[CtrModel, Batch], Tensor]


def served(model: CtrModel, batch: Batch) -> Tensor:
    """Logits of the graph that the service runs."""
    logits: Tensor = model(batch.user, batch.context, batch.slate)
    return logits


def trained(model: CtrModel, batch: Batch) -> Tensor:
    """Logits of the graph that training fitted."""
    return model.train_forward(batch.user, batch.context, batch.slate).logits


def device_of(model: CtrModel) -> torch.device:
    """Where the model's weights are; the CPU for a model without any."""
    weight = next(model.parameters(), None)
    return torch.device("cpu") if weight is None else weight.device


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
    device = device_of(model)
    total = -(-len(slates) // EVALUATION_SLATES)
    epoch = source.epoch(slates, EVALUATION_SLATES, np.random.default_rng(SEED), shuffle=False)
    with torch.inference_mode():
        for done, (batch, targets) in enumerate(epoch, 1):
            logit = forward(model, batch.to(device))
            probability = logit.double().sigmoid().cpu().numpy()
            mask = targets.mask
            slate = (done - 1) * EVALUATION_SLATES + np.arange(len(mask))
            of_slates = (targets.user, slate, (targets.history > 0).sum(1))
            user, slate, length = (np.broadcast_to(x[:, None], mask.shape)[mask] for x in of_slates)
            columns.append(
                (probability[mask], targets.label[mask], user, slate, targets.event[mask], length)
            )
            if keys:
                matches.append(find_matches(keys, targets, source.events.schema.recent_length))
            progress(done, total)
    probability, label, user, slate, event, history = (
        np.concatenate(column) for column in zip(*columns, strict=True)
    )
    joined = join_matches(matches) if matches else None
    return Predictions(probability, label, user, slate, event, history, joined)


def oracle_auc(events: Events, predictions: Predictions) -> float | None:
    """AUC of the probabilities that the labels were drawn with: what a perfect model reaches; None if unknown."""
    if events.oracle is None:
        return None
    known = predictions.event >= 0
    truth = events.oracle[predictions.event[known]]
    label, user = predictions.label[known], predictions.user[known]
    return measure(truth.astype(np.float64), label, user).auc
