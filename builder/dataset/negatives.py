"""Negatives for logs without impressions: items without an event of the user, by popularity and by category."""

import numpy as np
from numpy.typing import NDArray

from builder.ingest.events import Events

TRIES = 20
"""Draws per negative until it is an item without an event of the user; after that it is masked out."""


class NegativeSampler:
    """Draws items with probability proportional to popularity^power, from all items or from one category.

    Args:
        events: the log.
        popularity: events per catalogue row, [V]. For training they are counted in the training days: otherwise an
            item that appears only later would be drawn as a negative and never be a positive. For evaluation they are
            counted in the whole log: otherwise a new item would never be drawn as a negative.
        power: exponent on popularity.
        same_category: share of negatives drawn from the positive's category.
        touched: events that count as touched, [E]. None: all.
    """

    def __init__(
        self,
        events: Events,
        popularity: NDArray[np.int64],
        *,
        power: float,
        same_category: float,
        touched: NDArray[np.bool_] | None = None,
    ) -> None:
        weight = popularity.astype(np.float64) ** power * (popularity > 0)
        self._order = np.argsort(events.category, kind="stable")
        self._cumulative = np.concatenate([[0.0], np.cumsum(weight[self._order])])
        self._category = np.asarray(events.category)
        edges = np.searchsorted(self._category[self._order], np.arange(self._category.max() + 2))
        self._low, self._high = self._cumulative[edges[:-1]], self._cumulative[edges[1:]]
        self._num_items = len(events.item_fields)
        users = np.repeat(np.arange(events.num_users), np.diff(events.offsets))
        keys = users * self._num_items + events.item
        self._touched = np.unique(keys if touched is None else keys[touched])
        self._same_category = same_category

    def draw(
        self, users: NDArray[np.int64], positives: NDArray[np.int64], rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """One negative per positive, [n]; 0 (padding) where none was found."""
        category = self._category[positives]
        same = rng.random(len(positives)) < self._same_category
        low = np.where(same, self._low[category], 0.0)
        high = np.where(same, self._high[category], self._cumulative[-1])
        drawn = np.zeros(len(positives), np.int64)
        pending = np.arange(len(positives))
        for _ in range(TRIES):
            items = self._at(low[pending] + rng.random(len(pending)) * (high - low)[pending])
            free = ~self._is_touched(users[pending], items)
            drawn[pending[free]] = items[free]
            pending = pending[~free]
            if not len(pending):
                break
        return drawn

    def _at(self, point: NDArray[np.float64]) -> NDArray[np.int64]:
        position = np.searchsorted(self._cumulative, point, side="right") - 1
        return self._order[np.minimum(position, len(self._order) - 1)]

    def _is_touched(self, users: NDArray[np.int64], items: NDArray[np.int64]) -> NDArray[np.bool_]:
        key = users * self._num_items + items
        position = np.minimum(np.searchsorted(self._touched, key), len(self._touched) - 1)
        return np.asarray(self._touched[position] == key)
