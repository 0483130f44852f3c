"""Validation during training: the same sample of slates and negatives every time, kept on the device."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from builder.dataset.batches import Slates
from builder.dataset.parts import batch_source, part_slates
from builder.ingest.events import Events
from builder.recipe.recipe import Recipe
from models.base import CtrModel
from models.batch import Batch

SLATES = 2000
"""Smallest number of slates in a validation: with baskets, the AUC is known to ±0.003, in a small part of the time of
the training steps between two validations."""
EVENTS = 8000
"""Smallest number of events in a validation, or all if there are fewer: slates of one impression each say little."""
AT_ONCE = 64
"""Slates of a batch."""
SEED = 1
"""Of the negatives, as in the evaluation: every model and every training seed is validated on the same ones."""
ENOUGH = 0.25
"""Share of the slates that must have an AUC of their own, for GAUC to be compared."""
Floats = NDArray[np.float64]


class Validation:
    """Measures a model on the validation part.

    Args:
        events: the log.
        recipe: of the training.
        device: of the model.
    """

    def __init__(self, events: Events, recipe: Recipe, device: torch.device) -> None:
        source = batch_source(events, recipe, "validate")
        slates = part_slates(events, recipe, "validate")
        slates, rng = slates.at(some(slates)), np.random.default_rng(SEED)
        made = [batch for batch, _ in source.epoch(slates, AT_ONCE, rng, shuffle=False)]
        shape = [batch.label.shape for batch in made]
        slate = torch.split(torch.arange(len(slates)), AT_ONCE)
        self._slate = _flat(made, [s[:, None].expand(n) for s, n in zip(slate, shape, strict=True)])
        self._label = _flat(made, [batch.label for batch in made])
        self._offset = _flat(made, [batch.offset.expand_as(batch.label) for batch in made])
        self._weight = _flat(made, [batch.weight for batch in made])
        # A sampled negative stands for as many as were not drawn.
        self._full = self._weight * np.where(self._label > 0, 1.0, np.exp(self._offset))
        self._batches = [batch.to(device) for batch in made]

    @torch.inference_mode()
    def run(self, model: CtrModel) -> dict[str, Any]:
        """AUC, GAUC per slate (None where slates are too small for it) and log loss of the served graph.

        A diverged model gives NaN: training goes on, and an earlier step may be the best.
        """
        model.eval()
        logits = [model(batch.user, batch.context, batch.slate) for batch in self._batches]
        logit = _flat(self._batches, logits)
        label = self._label
        loss = np.logaddexp(0, logit + self._offset) - label * (logit + self._offset)
        return {
            "auc": weighted_auc(logit, label, self._full),
            "gauc": slate_auc(logit, label, self._slate),
            "log_loss": float((self._weight * loss).sum() / self._weight.sum()),
        }


def _flat(batches: Sequence[Batch], values: Sequence[Tensor]) -> Floats:
    """Values of the real candidates of all batches, one after another."""
    parts = [v[batch.mask].double() for v, batch in zip(values, batches, strict=True)]
    return torch.cat(parts).cpu().numpy()


def some(slates: Slates) -> NDArray[np.int64]:
    """Indices of the slates that a validation measures: the same in every training."""
    order = np.random.default_rng(0).permutation(len(slates))
    events = np.cumsum((slates.end - slates.begin)[order])
    enough = int(np.searchsorted(events, EVENTS)) + 1
    return np.sort(order[: max(SLATES, enough)])


def weighted_auc(score: Floats, label: Floats, weight: Floats) -> float:
    """Area under the ROC curve; ties count one half. NaN for scores that are not numbers, or for a single class."""
    if not np.isfinite(score).all():
        return float("nan")
    _, place = np.unique(score, return_inverse=True)
    positives, negatives = (np.bincount(place, weight * side) for side in (label, 1 - label))
    below = np.cumsum(negatives) - negatives / 2
    pairs = positives.sum() * negatives.sum()
    return float((positives * below).sum() / pairs) if pairs else float("nan")


def slate_auc(score: Floats, label: Floats, slate: Floats) -> float | None:
    """Mean over slates of the AUC of each one's targets; None if few slates have more than two, of both classes."""
    if not np.isfinite(score).all():
        return float("nan")
    order = np.lexsort((score, slate))
    score, label, slate = score[order], label[order], slate[order].astype(np.int64)
    first = np.r_[True, slate[1:] != slate[:-1]]
    is_new = first | np.r_[True, score[1:] != score[:-1]]
    tie = np.cumsum(is_new) - 1
    start = np.flatnonzero(first)
    group = np.cumsum(first) - 1
    negatives = np.bincount(tie, 1 - label)
    below = np.cumsum(negatives) - negatives / 2
    before = np.cumsum(1 - label)[start] - (1 - label)[start]
    wins = np.bincount(group, label * (below[tie] - before[group]))
    pairs = np.bincount(group, label) * np.bincount(group, 1 - label)
    usable = (pairs > 0) & (np.bincount(group) > 2)
    return float(np.mean(wins[usable] / pairs[usable])) if usable.mean() >= ENOUGH else None
