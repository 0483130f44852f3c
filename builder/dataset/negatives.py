"""Negatives for logs without impressions: from where they are drawn, and which items never are."""

import numpy as np
from numpy.typing import NDArray

from builder.dataset.lines import Line, OwnPast, Popularity, Recent
from builder.dataset.runs import Ints, place_in, slate_runs
from builder.ingest.events import Events
from builder.recipe.negatives import NegativeRule

TRIES = 20
"""Draws per negative until it is an item that is not excluded; after that it is masked out."""
HOUR_S = 3_600


class NegativeSampler:
    """Draws one item for each positive event.

    Args:
        events: the log.
        rule: how.
        known: events that training may count, [E]: negatives for training are drawn from these. None: from all, for
            evaluation.
    """

    def __init__(
        self, events: Events, rule: NegativeRule, known: NDArray[np.bool_] | None = None
    ) -> None:
        # In a split by event, an item of a test event must not be missing among the user's training negatives: the
        # model would learn which items those are. So training excludes only the items of the training events.
        by_event = events.split.test_events > 0
        self._excluded = _Excluded(events, rule.exclude, known if by_event else None)
        drawn = np.ones(len(events.item), bool) if known is None else known
        self._others: Line = Popularity(
            events,
            events.popularity if known is None else events.train_popularity,
            power=rule.popularity_power,
            same_category=rule.same_category,
        )
        if rule.window_hours is not None:
            self._others = Recent(events, drawn, rule.window_hours * HOUR_S)
        self._share = rule.own_past
        self._past = OwnPast(events, drawn) if rule.own_past else None

    def draw(self, event: Ints, rng: np.random.Generator) -> Ints:
        """One negative per positive, as catalogue rows, [n]; 0 (padding) where none was found.

        Args:
            event: index of each positive's event, [n].
            rng: source of the draws.
        """
        drawn = np.zeros(len(event), np.int64)
        is_own = np.zeros(len(event), bool)
        if self._past is not None:
            low, high = self._past.ranges(event, rng)
            is_own = (rng.random(len(event)) < self._share) & (low < high)
            drawn[is_own] = self._draw_from(self._past, event[is_own], rng)
        drawn[~is_own] = self._draw_from(self._others, event[~is_own], rng)
        return drawn

    def _draw_from(self, line: Line, event: Ints, rng: np.random.Generator) -> Ints:
        low, high = line.ranges(event, rng)
        drawn = np.zeros(len(event), np.int64)
        pending = np.flatnonzero(low < high)
        for _ in range(TRIES):
            items = line.items(low[pending] + rng.random(len(pending)) * (high - low)[pending])
            is_free = ~self._excluded.has(event[pending], items)
            drawn[pending[is_free]] = items[is_free]
            pending = pending[~is_free]
            if not len(pending):
                break
        return drawn


class _Excluded:
    """Items that are never a negative of a positive event: those of a range of its user's events.

    Args:
        events: the log.
        exclude: `NegativeRule.exclude`, which names the range.
        touched: events that exclude their items, [E]. None: all.
    """

    def __init__(self, events: Events, exclude: str, touched: NDArray[np.bool_] | None) -> None:
        self._exclude, self._size = exclude, len(events.item)
        self._offsets, self._slates = np.asarray(events.offsets), slate_runs(events)
        item = np.asarray(events.item).astype(np.int64)
        place = np.arange(self._size) if touched is None else np.flatnonzero(touched)
        # Events of one item are together, in the order of the log. The next event of an item at or after the begin of a
        # range is then one search.
        self._keys = np.sort(item[place] * self._size + place)

    def has(self, event: Ints, items: Ints) -> NDArray[np.bool_]:
        """Whether each item is excluded for its event, [n]."""
        if not len(self._keys):
            return np.zeros(len(event), bool)
        begin, end = self._ranges(event)
        key = items * self._size
        place = np.searchsorted(self._keys, key + begin)
        found = self._keys[np.minimum(place, len(self._keys) - 1)]
        return np.asarray((found >= key + begin) & (found < key + end))

    def _ranges(self, event: Ints) -> tuple[Ints, Ints]:
        slate, user = place_in(self._slates, event), place_in(self._offsets, event)
        if self._exclude == "slate":
            return self._slates[slate], self._slates[slate + 1]
        if self._exclude == "past":
            return self._offsets[user], self._slates[slate + 1]
        return self._offsets[user], self._offsets[user + 1]
