"""Lines of items. A negative is a uniform draw from a range of a line: a point of the range, and the item at it."""

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from builder.dataset.runs import Ints, place_in, time_runs
from builder.ingest.events import Events

Floats = NDArray[np.float64]


@runtime_checkable
class Line(Protocol):
    """Items side by side, each as long as it is likely."""

    def ranges(self, event: Ints, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Begin and end of the range that the negative of each positive event is drawn from, [n] each.

        A range is empty where there is nothing to draw.
        """
        ...

    def items(self, point: Floats) -> Ints:
        """Catalogue row at each point of the line, [n]."""
        ...


class Popularity:
    """Items by category, each of length popularity^power: a range is one category, or all.

    Args:
        events: the log.
        popularity: events per catalogue row, [V]. For training they are counted in the training days: otherwise an
            item that appears only later would be drawn as a negative and never be a positive. For evaluation they are
            counted in the whole log: otherwise a new item would never be drawn as a negative.
        power: exponent on popularity.
        same_category: share of ranges that are the category of the positive.
    """

    def __init__(
        self,
        events: Events,
        popularity: NDArray[np.int64],
        *,
        power: float,
        same_category: float,
    ) -> None:
        weight = popularity.astype(np.float64) ** power * (popularity > 0)
        self._item, self._category = np.asarray(events.item), np.asarray(events.category)
        self._order = np.argsort(self._category, kind="stable")
        self._cumulative = np.concatenate([[0.0], np.cumsum(weight[self._order])])
        edges = np.searchsorted(self._category[self._order], np.arange(self._category.max() + 2))
        self._edge = self._cumulative[edges]
        self._same_category = same_category

    def ranges(self, event: Ints, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """The positive's category for the wanted share of the events, all items for the others."""
        category = self._category[self._item[event]]
        is_same = rng.random(len(event)) < self._same_category
        low = np.where(is_same, self._edge[category], 0.0)
        return low, np.where(is_same, self._edge[category + 1], self._cumulative[-1])

    def items(self, point: Floats) -> Ints:
        """Catalogue row at each point, [n]."""
        place = np.searchsorted(self._cumulative, point, side="right") - 1
        return np.asarray(self._order[np.minimum(place, len(self._order) - 1)])


class OwnPast:
    """Events in the order of the log: a range is what the user took strictly before the positive's time.

    Args:
        events: the log.
        known: events that may be drawn, [E].
    """

    def __init__(self, events: Events, known: NDArray[np.bool_]) -> None:
        self._item = np.asarray(events.item)[known]
        self._before = np.concatenate([[0], np.cumsum(known)])
        self._offsets, self._times = events.offsets, time_runs(events)

    def ranges(self, event: Ints, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """The user's earlier events that may be drawn."""
        begin = np.asarray(self._offsets)[place_in(self._offsets, event)]
        end = self._times[place_in(self._times, event)]
        return self._before[begin].astype(np.float64), self._before[end].astype(np.float64)

    def items(self, point: Floats) -> Ints:
        """Catalogue row of the event at each point, [n]."""
        return _at(self._item, point)


class Recent:
    """Events of all users in the order of their times: a range is the window that ends just before the positive.

    Args:
        events: the log.
        known: events that may be drawn, [E].
        window_s: length of the window, seconds.
    """

    def __init__(self, events: Events, known: NDArray[np.bool_], window_s: float) -> None:
        self._ts_s, self._window_s = np.asarray(events.ts_s), window_s
        order = np.flatnonzero(known)
        order = order[np.argsort(self._ts_s[order], kind="stable")]
        self._item, self._times = np.asarray(events.item)[order], self._ts_s[order]

    def ranges(self, event: Ints, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """The window's events that may be drawn."""
        now = self._ts_s[event]
        begin, end = (np.searchsorted(self._times, at) for at in (now - self._window_s, now))
        return begin.astype(np.float64), end.astype(np.float64)

    def items(self, point: Floats) -> Ints:
        """Catalogue row of the event at each point, [n]."""
        return _at(self._item, point)


def _at(item: NDArray[np.int32], point: Floats) -> Ints:
    if not len(item):
        return np.zeros(len(point), np.int64)
    return item[np.minimum(point.astype(np.int64), len(item) - 1)].astype(np.int64)
