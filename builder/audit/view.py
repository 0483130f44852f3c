"""What a model can read of a batch's targets, one row per target: the input of the audit's rules."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from builder.dataset.batches import Targets
from models.batch import Batch
from models.contract.schema import PADDING

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class View:
    """N targets of some slates.

    Attributes:
        slate: row of each target's slate in the batch, [N].
        user: index of each target's user, [N].
        item: catalogue row, [N].
        place: place of the target in its slate, from 0, [N].
        size: number of targets in its slate, [N].
        label: 1 for a positive, else 0; [N].
        weight: how many targets of the log it stands for, [N].
        counts: events of the history with the target's key, for K keys; [N, K].
        age: age bucket of the latest event with the first key; `PADDING` where there is none, [N].
        length: number of events in the history, [N].
        profile: dense ids of the user fields, [N, Fu].
        context: dense ids of the context fields, [N, Fc].
        candidate: dense ids of the candidate fields, [N, Fs].
    """

    slate: Ints
    user: Ints
    item: Ints
    place: Ints
    size: Ints
    label: Floats
    weight: Floats
    counts: Ints
    age: Ints
    length: Ints
    profile: Ints
    context: Ints
    candidate: Ints

    def __len__(self) -> int:
        return len(self.item)


def view_of(batch: Batch, targets: Targets, keys: Sequence[NDArray[np.integer]]) -> View:
    """The view of a batch's real targets.

    Args:
        batch: the model's input.
        targets: the same as arrays.
        keys: K arrays with a key for each catalogue row, [V] each; equal keys match.
    """
    slate, column = np.nonzero(targets.mask)
    item = targets.items[slate, column]
    found = [_matches(key, targets, slate, item) for key in keys]
    size = targets.mask.sum(1)
    # Drawn negatives stand for others of the slate: the sampling rate that the loss corrects for.
    offset = np.exp(batch.offset.numpy().astype(np.float64))
    label = targets.label[slate, column].astype(np.float64)
    weight = batch.weight.numpy().astype(np.float64)[slate, column]
    return View(
        slate=slate,
        user=targets.user[slate],
        item=item,
        place=(np.cumsum(targets.mask, 1) - 1)[slate, column],
        size=size[slate],
        label=label,
        weight=np.where(label > 0, weight, weight * offset[slate, 0]),
        counts=np.stack([count for count, _ in found], 1),
        age=found[0][1],
        length=(targets.history != PADDING).sum(1)[slate],
        profile=batch.user.fields.numpy()[slate],
        context=batch.context.fields.numpy()[slate],
        candidate=batch.slate.fields.numpy()[slate, column],
    )


def _matches(
    key: NDArray[np.integer], targets: Targets, slate: Ints, item: Ints
) -> tuple[Ints, Ints]:
    """Number of events with each target's key, and age bucket of the latest, [N] each.

    Sorts the histories' keys once: whole pools have too many candidates to compare each with each event.
    """
    row, event = np.nonzero(targets.history != PADDING)
    if not len(row):
        return np.zeros(len(item), np.int64), np.full(len(item), PADDING, np.int64)
    base = int(key.max()) + 1
    own = row * base + key[targets.history[row, event]]
    order = np.argsort(own, kind="stable")  # of equal keys the newest event stays last
    own, wanted = own[order], slate * base + key[item]
    low = np.searchsorted(own, wanted, side="left")
    high = np.searchsorted(own, wanted, side="right")
    ages = targets.ages[row, event][order]
    age = np.where(high > low, ages[np.maximum(high - 1, 0)], PADDING)
    return high - low, age
