"""What a model can read of a batch's targets, one row per target: the input of the audit's rules."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from builder.dataset.batches import Targets
from models.batch import Batch
from models.contract.schema import PADDING

MOST_KEYS = 1 << 17
"""Keys up to this number are counted in a table of slates and keys."""
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

    @cached_property
    def user_place(self) -> Ints:
        """Place of each target's user among the users of the view, [N]."""
        return np.unique(self.user, return_inverse=True)[1]

    @cached_property
    def num_users(self) -> int:
        """Number of users of the view."""
        return int(self.user_place.max(initial=-1)) + 1

    @cached_property
    def positive(self) -> Ints:
        """Indices of the positives, [positives]."""
        return np.flatnonzero(self.label)

    @cached_property
    def is_unweighted(self) -> bool:
        """Whether every target stands for itself."""
        return bool((self.weight == 1).all())


def view_of(batch: Batch, targets: Targets, keys: Sequence[NDArray[np.integer]]) -> View:
    """The view of a batch's real targets.

    Args:
        batch: the model's input.
        targets: the same as arrays.
        keys: K arrays with a key for each catalogue row, [V] each; equal keys match.
    """
    slate, column = np.nonzero(targets.mask)
    item = targets.items[slate, column]
    row, event = np.nonzero(targets.history != PADDING)
    bought = targets.history[row, event]
    matched = [_compact(key[bought], key[item]) for key in keys]
    counts = [_count(row, own, slate, wanted, len(targets.items)) for own, wanted in matched]
    ages = targets.ages[row, event]
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
        counts=np.stack(counts, 1),
        age=_latest_age(row, matched[0][0], ages, slate, matched[0][1]),
        length=(targets.history != PADDING).sum(1)[slate],
        profile=batch.user.fields.numpy()[slate],
        context=batch.context.fields.numpy()[slate],
        candidate=batch.slate.fields.numpy()[slate, column],
    )


def _compact(key: NDArray[np.integer], wanted: NDArray[np.integer]) -> tuple[Ints, Ints]:
    """Keys of events and of targets, numbered anew where they are so large that a table of them would be."""
    if max(key.max(initial=0), wanted.max(initial=0)) < MOST_KEYS:
        return key.astype(np.int64), wanted.astype(np.int64)
    known, place = np.unique(key, return_inverse=True)
    at = np.minimum(np.searchsorted(known, wanted), max(len(known) - 1, 0))
    is_known = known[at] == wanted if len(known) else np.zeros(len(wanted), bool)
    return place, np.where(is_known, at, len(known))


def _count(row: Ints, key: Ints, slate: Ints, wanted: Ints, num_rows: int) -> Ints:
    """Number of events with each target's key in its slate's history, [N].

    Args:
        row: slate of each event, [n].
        key: key of each event, [n].
        slate: slate of each target, [N].
        wanted: key of each target, [N].
        num_rows: number of slates.
    """
    base = int(max(key.max(initial=0), wanted.max(initial=0))) + 1
    table: Ints = np.bincount(row * base + key, minlength=num_rows * base)
    return np.asarray(table[slate * base + wanted])


def _latest_age(row: Ints, key: Ints, age: Ints, slate: Ints, wanted: Ints) -> Ints:
    """Age bucket of the latest event with each target's key, `PADDING` where there is none, [N].

    Args:
        row: slate of each event; events of a slate in the order of their times, [n].
        key: key of each event, [n].
        age: age bucket of each event, [n].
        slate: slate of each target, [N].
        wanted: key of each target, [N].
    """
    base = int(max(key.max(initial=0), wanted.max(initial=0))) + 1
    rows = int(max(row.max(initial=0), slate.max(initial=0))) + 1
    latest = np.full(rows * base, PADDING, np.int64)
    latest[row * base + key] = age  # of events with one key the last is kept, which is the latest
    return np.asarray(latest[slate * base + wanted])
