"""Slates with their users' states of another time than the slate's own: of a build's cut, or followed to the slate."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from builder.dataset.batches import BatchSource, Slates
from builder.ingest.events import Events
from models.base import UserState
from models.batch import Batch, Context, User

States = Literal["cut", "folded", "asked"]
"""cut: every state is that of the build. folded: it holds all events before the slate, as the worker folds them. asked:
it holds the same events, with ages measured from the slate's own time, as in training: what no cache can hold."""


@dataclass(frozen=True)
class AsOf:
    """Of each slate: where its history ends, and from when its ages are measured; [S] each.

    Attributes:
        before: index of the event just behind the history.
        now_s: epoch second.
    """

    before: NDArray[np.int64]
    now_s: NDArray[np.int64]


def as_of(events: Events, slates: Slates, cut_s: int, states: States, gap_s: int = 0) -> AsOf:
    """When the states of slates are from.

    A folded state is what re-encoding gives: events strictly before the slate, ages as in `models/live/ages.py`. It is
    not what training sees: there ages are measured from the slate's own time.

    Args:
        events: the log up to the end of the slates' day.
        slates: the slates.
        cut_s: epoch second of the build's cut.
        states: of the cut, or folded.
        gap_s: from a folded state's newest event, if that is after the cut, to when ages are measured.
    """
    ts_s, offsets = np.asarray(events.ts_s), np.asarray(events.offsets)
    if states == "asked":
        return AsOf(slates.first, ts_s[slates.first])
    if states == "folded":
        newest_s = np.where(
            slates.first > offsets[slates.user], ts_s[np.maximum(slates.first - 1, 0)], 0
        )
        return AsOf(slates.first, np.where(newest_s > cut_s, newest_s + gap_s, cut_s))
    is_before = np.concatenate([[0], np.cumsum(ts_s < cut_s)])
    # Events are sorted by time within a user: those before the cut come first.
    known = is_before[offsets[slates.user + 1]] - is_before[offsets[slates.user]]
    return AsOf(offsets[slates.user] + known, np.full(len(slates), cut_s))


def with_states(source: BatchSource, batch: Batch, slates: Slates, when: AsOf) -> Batch:
    """The batch of `slates` with the histories of another time."""
    schema = source.events.schema
    length, recent = schema.history_length, schema.recent_length
    rows, ages = source.histories(slates.user, when.before, when.now_s, max(length, recent))
    long, of_ages, short = (
        torch.from_numpy(np.ascontiguousarray(part))
        for part in (rows[:, -length:], ages[:, -length:], rows[:, rows.shape[1] - recent :])
    )
    return Batch(
        User(long, of_ages, batch.user.fields),
        Context(short, batch.context.fields),
        batch.slate,
        batch.label,
        batch.mask,
        batch.weight,
        batch.offset,
    )


def state_distance(one: UserState, other: UserState) -> NDArray[np.float64]:
    """Σ |a − b| / Σ |a| over the numbers of each user's two states, [B]; slots of items are compared item by item."""
    apart, size = (torch.zeros(len(next(iter(one.values()))), dtype=torch.float64) for _ in "ab")
    left, right = _by_item(one), _by_item(other)
    for name, value in left.items():
        if value.dtype.is_floating_point:
            apart += (value - right[name]).double().abs().flatten(1).sum(1)
            size += value.double().abs().flatten(1).sum(1)
    return (apart / size.clamp(min=1e-12)).numpy()


def _by_item(state: UserState) -> UserState:
    """The state with its item slots in the order of the items, whatever their sums."""
    if "slot_items" not in state:
        return state
    order = state["slot_items"].argsort(dim=1, stable=True)
    sums = state["slot_sums"]
    return state | {"slot_sums": sums.gather(1, order[..., None].expand_as(sums))}
