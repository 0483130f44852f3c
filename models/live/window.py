"""The window of a user and a generation: the latest events, of the build's log and of the live log together.

A state is a function of this set of events alone, never of the order in which they came: so duplicates, late events,
restarts and flips cannot change what it becomes. A live event up to the build's cut counts as delivered by the build
if the base history holds one of the same row and second, as many times as the base holds it. Among events of the same
second, those of the base come first, then live ones by their ids. Where a base history is full, live events up to the
cut that are as old as its oldest or older are outside the window. Events more than `MAX_LATENESS_S` before the cut are
too late for it: the build had that time to bring them.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from models.contract.schema import PADDING
from models.live.history import BaseHistory
from models.live.new_items import NewRows

MAX_LATENESS_S = 7 * 86_400
"""How long before a generation's cut a live event may have happened and still be folded."""
ItemRows = Callable[[Sequence[str]], NDArray[np.int64]]
"""Raw item ids -> catalogue rows; `UNKNOWN` for items that the generation does not know (`Vocabulary.item_rows`)."""


@runtime_checkable
class Happened(Protocol):
    """What a window needs of a live event."""

    @property
    def event_id(self) -> str:
        """Its id."""

    @property
    def item_id(self) -> str:
        """Raw id of the item."""

    @property
    def ts_s(self) -> int:
        """Epoch second."""


@dataclass(frozen=True)
class Window:
    """The latest events of a user, as one generation sees them.

    Attributes:
        rows: catalogue rows, oldest first, int64 [n].
        ts_s: epoch seconds, which do not decrease, int64 [n].
        cut_s: the build's cut.
        as_of_s: the cut, or the time of the newest event if that is later.
        num_live: how many of the events the build did not know; 0: the window is the base history.
    """

    rows: NDArray[np.int64]
    ts_s: NDArray[np.int64]
    cut_s: int
    as_of_s: int
    num_live: int

    def latest_rows(self, length: int) -> NDArray[np.int64]:
        """Rows of the latest events, right-aligned: int64 [length]; `PADDING` in front of fewer."""
        return right_aligned(self.rows, length)


def window_of(
    base: BaseHistory | None,
    live: Sequence[Happened],
    item_rows: ItemRows,
    cut_s: int,
    length: int,
    new_rows: NewRows | None = None,
) -> Window:
    """The window.

    Args:
        base: what the build knew; None for a user that it did not know.
        live: the user's live events, in any order, each id once.
        item_rows: rows of the generation's vocabulary.
        cut_s: the generation's `as_of_s`; a base has its own, which counts.
        length: most events of the window (`base_length`).
        new_rows: rows of registered items that the generation does not know; None: they stay `UNKNOWN`.
    """
    cut_s = base.as_of_s if base is not None else cut_s
    rows = np.zeros(0, np.int64) if base is None else base.rows[-length:].astype(np.int64)
    ts_s = np.zeros(0, np.int64) if base is None else base.ts_s[-length:]
    in_time = (event for event in live if event.ts_s >= cut_s - MAX_LATENESS_S)
    ordered = sorted(in_time, key=lambda event: (event.ts_s, event.event_id))
    live_rows = item_rows([event.item_id for event in ordered])
    live_ts_s = np.array([event.ts_s for event in ordered], np.int64)
    is_new = _is_new(rows, ts_s, live_rows, live_ts_s, cut_s, is_full=len(rows) == length)
    live_rows, live_ts_s = live_rows[is_new], live_ts_s[is_new]
    if new_rows:
        # Not before: the build may have left the item out, and then it counted the event as one of an unknown item.
        items = [event.item_id for event, kept in zip(ordered, is_new, strict=True) if kept]
        new_rows.fill(items, live_rows)
    every_ts_s = np.concatenate([ts_s, live_ts_s])
    order = np.argsort(every_ts_s, kind="stable")[-length:]
    newest_s = int(every_ts_s.max(initial=0))
    num_live = int((order >= len(rows)).sum())
    all_rows = np.concatenate([rows, live_rows])
    return Window(all_rows[order], every_ts_s[order], cut_s, max(cut_s, newest_s), num_live)


def _is_new(
    rows: NDArray[np.int64],
    ts_s: NDArray[np.int64],
    live_rows: NDArray[np.int64],
    live_ts_s: NDArray[np.int64],
    cut_s: int,
    *,
    is_full: bool,
) -> NDArray[np.bool_]:
    """Which live events the build did not deliver."""
    is_new = np.ones(len(live_rows), np.bool_)
    before = np.flatnonzero(live_ts_s <= cut_s)
    if not before.size or not len(rows):
        return is_new
    oldest_s = int(ts_s[0]) if is_full else -1
    is_near = np.isin(ts_s, live_ts_s[before])
    delivered = Counter(zip(rows[is_near].tolist(), ts_s[is_near].tolist(), strict=True))
    for place in before.tolist():
        event = int(live_rows[place]), int(live_ts_s[place])
        if event[1] <= oldest_s:
            is_new[place] = False
        elif delivered[event]:
            delivered[event] -= 1
            is_new[place] = False
    return is_new


def right_aligned(values: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """The last `length` values; `PADDING` in front of fewer."""
    latest = values[-length:] if length else values[:0]
    aligned = np.full(length, PADDING, np.int64)
    aligned[length - len(latest) :] = latest
    return aligned
