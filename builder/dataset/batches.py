"""Events -> batches of slates. A slate is one user's targets at one time (a basket, an impression) with one history.

The history of a target holds only events strictly before it. A batch has U slates of C targets: the history is gathered
and encoded once per slate, which makes long histories affordable in training.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from builder.dataset.negatives import NegativeSampler
from builder.ingest.events import Events
from builder.ingest.split import PARTS
from models.batch import Batch, Context, Slate, User
from models.contract.age import age_buckets

Part = Literal["train", "validate", "test"]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Slates:
    """Slates as ranges of events, in the order of the log: slate s holds events [begin[s], end[s]) of user[s]."""

    user: Ints
    begin: Ints
    end: Ints
    first: Ints
    """Index of the first event at the slate's time; the history ends just before it."""

    def __len__(self) -> int:
        return len(self.user)

    def at(self, chosen: Ints) -> "Slates":
        """The chosen slates."""
        return Slates(self.user[chosen], self.begin[chosen], self.end[chosen], self.first[chosen])


@dataclass(frozen=True)
class Targets:
    """A batch's targets as arrays, for metrics by user and for baselines that count."""

    user: Ints
    items: Ints
    label: NDArray[np.float32]
    mask: NDArray[np.bool_]
    history: Ints
    ages: Ints
    event: Ints
    """Index of the event behind each target, -1 for a drawn negative."""


def find_slates(events: Events, part: Part, *, min_events: int, max_events: int) -> Slates:
    """Slates of `part` whose user has at least `min_events` earlier events.

    If the split is `last_only`, only each user's last slate is taken. A slate has one user, one time and one context,
    as a request has. Slates of more than `max_events` events are cut into several that share their history.
    """
    ts, context, parts = np.asarray(events.ts_s), np.asarray(events.context), events.parts()
    user = np.repeat(np.arange(events.num_users), np.diff(events.offsets))
    is_first = np.ones(len(ts), bool)
    is_first[1:] = (ts[1:] != ts[:-1]) | (user[1:] != user[:-1])
    is_new = is_first.copy()
    is_new[1:] |= (parts[1:] != parts[:-1]) | (context[1:] != context[:-1]).any(1)
    start = np.flatnonzero(is_new)
    last = np.append(start[1:], len(ts))
    first = np.flatnonzero(is_first)[np.cumsum(is_first)[start] - 1]
    keep = parts[start] == PARTS.index(part)
    if events.split.last_only:
        keep &= ts[first] == ts[events.offsets[user[first] + 1] - 1]
    keep &= first - events.offsets[user[first]] >= min_events
    start, last, first = start[keep], last[keep], first[keep]
    pieces = -(-(last - start) // max_events)
    piece = np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    begin = np.repeat(start, pieces) + piece * max_events
    end = np.minimum(begin + max_events, np.repeat(last, pieces))
    return Slates(user[begin], begin, end, np.repeat(first, pieces))


class BatchSource:
    """Turns slates into batches.

    Args:
        events: the log.
        sampler: draws negatives; None: the log has its own.
        slate_events: largest number of events per slate, without drawn negatives.
        per_positive: negatives per positive.
    """

    def __init__(
        self,
        events: Events,
        sampler: NegativeSampler | None,
        *,
        slate_events: int,
        per_positive: int,
    ) -> None:
        self.events, self.sampler = events, sampler
        self.slate_events, self.per_positive = slate_events, per_positive
        self._item = np.asarray(events.item).astype(np.int64)
        self._label = np.asarray(events.label)
        self._ts_s = np.asarray(events.ts_s)
        # A history holds positives only; in a log of impressions `_clicks` skips the items that were only shown.
        self._clicks = np.concatenate([[0], np.cumsum(self._label)])
        self._clicked = np.flatnonzero(self._label)

    def batch(
        self, slates: Slates, chosen: Ints, rng: np.random.Generator
    ) -> tuple[Batch, Targets]:
        """The batch of the chosen slates."""
        events, length = self.events, self.events.schema.history_length
        user, first = slates.user[chosen], slates.first[chosen]
        history, ages = self._latest(user, first, max(length, events.schema.recent_length))
        items, label, event = self._targets(slates, chosen, rng)
        mask = items > 0
        items = _cycle_padding(items, mask)
        tensors = Batch.unweighted(
            User(
                _tensor(history[:, -length:]),
                _tensor(ages[:, -length:]),
                _tensor(events.user_fields[user]),
            ),
            Context(
                _tensor(history[:, history.shape[1] - events.schema.recent_length :]),
                _tensor(events.context[slates.begin[chosen]]),
            ),
            Slate.of(_tensor(items)),
            torch.from_numpy(label),
            torch.from_numpy(mask),
        )
        return tensors, Targets(
            user, items, label, mask, history[:, -length:], ages[:, -length:], event
        )

    def epoch(
        self, slates: Slates, size: int, rng: np.random.Generator, *, shuffle: bool
    ) -> Iterator[tuple[Batch, Targets]]:
        """Every slate once, `size` at a time."""
        order = rng.permutation(len(slates)) if shuffle else np.arange(len(slates))
        for start in range(0, len(order), size):
            yield self.batch(slates, order[start : start + size], rng)

    def _latest(self, user: Ints, before: Ints, length: int) -> tuple[Ints, Ints]:
        """Catalogue rows and age buckets of the latest positives, right-aligned."""
        end = self._clicks[before]
        begin = self._clicks[self.events.offsets[user]]
        position = end[:, None] - np.arange(length, 0, -1)
        valid = position >= begin[:, None]
        if not len(self._clicked):
            return np.zeros(position.shape, np.int64), np.zeros(position.shape, np.int64)
        event = self._clicked[np.where(valid, position, 0)]
        ages = age_buckets(self._ts_s[before][:, None] - self._ts_s[event])
        return np.where(valid, self._item[event], 0), np.where(valid, ages, 0)

    def _targets(
        self, slates: Slates, chosen: Ints, rng: np.random.Generator
    ) -> tuple[Ints, NDArray[np.float32], Ints]:
        begin, end = slates.begin[chosen], slates.end[chosen]
        index = begin[:, None] + np.arange(self.slate_events)
        valid = index < end[:, None]
        index = np.where(valid, index, begin[:, None])
        items = np.where(valid, self._item[index], 0)
        label = self._label[index].astype(np.float32)
        event = np.where(valid, index, -1)
        if self.sampler is None:
            return items, label, event
        drawn = [self._draw(event, valid, rng) for _ in range(self.per_positive)]
        zeros = np.zeros((len(chosen), self.slate_events * self.per_positive), np.float32)
        absent = np.full(zeros.shape, -1, np.int64)
        return (
            np.concatenate([items, *drawn], 1),
            np.concatenate([label, zeros], 1),
            np.concatenate([event, absent], 1),
        )

    def _draw(self, event: Ints, valid: NDArray[np.bool_], rng: np.random.Generator) -> Ints:
        drawn = np.zeros(event.shape, np.int64)
        if self.sampler is not None:
            drawn[valid] = self.sampler.draw(event[valid], rng)
        return drawn


def _cycle_padding(items: Ints, mask: NDArray[np.bool_]) -> Ints:
    """Fill masked places with the slate's own items in turn, so that BatchNorm sees real candidates only."""
    order = np.argsort(~mask, axis=1, kind="stable")  # the real ones first
    count = np.maximum(mask.sum(1), 1)
    place = np.cumsum(~mask, axis=1) - 1
    source = np.take_along_axis(order, np.where(mask, 0, place % count[:, None]), 1)
    return np.where(mask, items, np.take_along_axis(items, source, 1))


def _tensor(values: NDArray[np.integer]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.int64))
