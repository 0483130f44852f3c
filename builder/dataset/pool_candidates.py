"""Candidates of slates from their pools: sampled for training and validation, whole for tests. numpy only.

Axis letters: B slates, C candidates, P and K drawn positives and negatives, M positives of the richest slate.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from builder.dataset.slates import Slates, slate_starts
from builder.ingest.events import Events
from builder.recipe.sampling import SamplingRule

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
ABSENT = 1 << 30
"""Place of a positive that is not there; above every real place."""


@dataclass(frozen=True)
class Candidates:
    """Candidates of a batch's slates.

    Attributes:
        items: catalogue rows; [B, C].
        fields: dense ids of the candidate fields; [B, C, Fs].
        label: 1 for a positive; float32 [B, C].
        mask: false at padding, which repeats the slate's real candidates in turn; [B, C].
        weight: weight in the loss, 0 at padding; float32 [B, C].
        offset: log of the sampling rate of positives over that of negatives; float32 [B, 1].
        event: index of the event behind a positive, -1 for a negative; [B, C].
    """

    items: Ints
    fields: Ints
    label: Floats
    mask: NDArray[np.bool_]
    weight: Floats
    offset: Floats
    event: Ints


class PoolCandidates:
    """Draws candidates from the pools of a log.

    Args:
        events: a log with pools.
        rule: how many candidates are drawn.
    """

    def __init__(self, events: Events, rule: SamplingRule) -> None:
        if events.pools is None or events.event_pool is None:
            raise ValueError("events: got a log without pools, expected one with pools")
        self.rule = rule
        self._first = np.asarray(events.pools.first)
        self._item = np.asarray(events.pools.item)
        self._fields = np.asarray(events.pools.fields)
        self._event_pool = np.asarray(events.event_pool)
        self._place = positive_places(events)
        self._before = np.concatenate([[0], np.cumsum(self._place >= 0)])

    def num_positives(self, slates: Slates) -> Ints:
        """Number of positives of each slate, [slates]."""
        return np.asarray(self._before[slates.end] - self._before[slates.begin])

    def sizes(self, slates: Slates) -> Ints:
        """Number of candidates in each slate's pool, [slates]."""
        pool = self._event_pool[slates.begin]
        return np.asarray(self._first[pool + 1] - self._first[pool])

    def sample(self, slates: Slates, rng: np.random.Generator) -> Candidates:
        """P positives, then K negatives, of each slate.

        A positive that stands for others has their weight. A negative stands for exp(offset) of its kind: sums of
        weight · exp(offset · (1 − label)) · f are, on average, the sums of f over whole pools.
        """
        rule, size = self.rule, self.sizes(slates)
        place, event = self._positives(slates)
        count = (place < ABSENT).sum(1)
        begin = np.where(count > rule.positives, (rng.random(len(count)) * count).astype(int), 0)
        turn = (begin[:, None] + np.arange(rule.positives)) % np.maximum(count, 1)[:, None]
        is_taken = np.arange(rule.positives) < count[:, None]
        others = size - count
        negative = _draw_others(place, others, rng.random((len(count), rule.negatives)))
        is_drawn = np.broadcast_to(others[:, None] > 0, negative.shape)
        heavy = is_taken * (count / np.clip(count, 1, rule.positives))[:, None]
        label = np.concatenate([np.ones_like(heavy), np.zeros(negative.shape)], 1)
        return self._candidates(
            slates,
            places=np.concatenate([np.take_along_axis(place, turn, 1), negative], 1),
            mask=np.concatenate([is_taken, is_drawn], 1),
            label=label,
            weight=np.concatenate([heavy, is_drawn], 1),
            offset=np.log(np.maximum(others, 1) / rule.negatives),
            event=np.concatenate(
                [np.take_along_axis(event, turn, 1), np.full(negative.shape, -1)], 1
            ),
        )

    def whole(self, slates: Slates) -> Candidates:
        """Every candidate of each slate's pool, in the pool's order."""
        size = self.sizes(slates)
        mask = np.arange(size.max(initial=0)) < size[:, None]
        place, positive_event = self._positives(slates)
        row, column = np.nonzero(place < ABSENT)
        label, event = np.zeros(mask.shape), np.full(mask.shape, -1)
        label[row, place[row, column]] = 1
        event[row, place[row, column]] = positive_event[row, column]
        places = np.broadcast_to(np.arange(mask.shape[1]), mask.shape)
        return self._candidates(slates, places, mask, label, mask, np.zeros(len(slates)), event)

    def _positives(self, slates: Slates) -> tuple[Ints, Ints]:
        """Places in its pool of each slate's positives, rising, then `ABSENT`; and their events. [B, M], M ≥ 1."""
        width = int((slates.end - slates.begin).max(initial=1))
        event = slates.begin[:, None] + np.arange(width)
        is_own = event < slates.end[:, None]
        place = np.where(is_own, self._place[np.where(is_own, event, 0)], -1).astype(np.int64)
        place[place < 0] = ABSENT
        most = max(1, int((place < ABSENT).sum(1).max(initial=1)))
        order = np.argsort(place, axis=1)[:, :most]
        return np.take_along_axis(place, order, 1), np.take_along_axis(event, order, 1)

    def _candidates(
        self,
        slates: Slates,
        places: Ints,
        mask: NDArray[np.bool_],
        label: NDArray[np.floating],
        weight: NDArray[np.floating] | NDArray[np.bool_],
        offset: NDArray[np.floating],
        event: Ints,
    ) -> Candidates:
        places = np.take_along_axis(places, real_in_turn(mask), 1)
        at = self._first[self._event_pool[slates.begin]][:, None] + places
        return Candidates(
            items=self._item[at].astype(np.int64),
            fields=self._fields[at].astype(np.int64),
            label=(label * mask).astype(np.float32),
            mask=mask,
            weight=weight.astype(np.float32),
            offset=offset[:, None].astype(np.float32),
            event=np.where(mask, event, -1),
        )


@lru_cache(maxsize=2)
def positive_places(events: Events) -> NDArray[np.int32]:
    """Place in its pool of each positive event, -1 for other events; [E].

    Of several events of a slate with one item, the first is the positive. Cached: it takes a second on a year of
    purchases, and a comparison trains many models on one log.

    Raises:
        ValueError: the log has no pools.
    """
    if events.pools is None or events.event_pool is None:
        raise ValueError("events: got a log without pools, expected one with pools")
    place = events.pools.places(np.asarray(events.event_pool), np.asarray(events.item))
    event = np.flatnonzero(place >= 0)
    slate = np.cumsum(slate_starts(events, events.parts())[1])[event]
    key = slate * (int(place.max(initial=0)) + 1) + place[event]
    is_again = np.ones(len(event), bool)
    is_again[np.unique(key, return_index=True)[1]] = False
    place[event[is_again]] = -1
    place.flags.writeable = False
    return place


def real_in_turn(mask: NDArray[np.bool_]) -> Ints:
    """Index of each real candidate itself, and at padding those of the slate's real candidates in turn; [B, C].

    BatchNorm then sees real candidates only, each about equally often.
    """
    order = np.argsort(~mask, axis=1, kind="stable")  # the real ones first
    count = np.maximum(mask.sum(1), 1)
    turn = (np.cumsum(~mask, axis=1) - 1) % count[:, None]
    source = np.take_along_axis(order, turn, 1)
    return np.where(mask, np.arange(mask.shape[1]), source)


def _draw_others(place: Ints, others: Ints, draws: NDArray[np.float64]) -> Ints:
    """Places of uniform draws from what is not a positive, [B, K].

    Args:
        place: places of the positives, rising, then `ABSENT`; [B, M].
        others: number of candidates that are no positives, [B].
        draws: uniform in [0, 1), [B, K].
    """
    rank = (draws * others[:, None]).astype(np.int64)
    # The place of the r-th other is r plus the number of positives before it.
    before = np.where(place < ABSENT, place - np.arange(place.shape[1]), ABSENT)
    return np.asarray(rank + (before[:, None] <= rank[..., None]).sum(-1))
