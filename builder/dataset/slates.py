"""Events -> slates. A slate is one user's targets at one time (a basket, an impression) with one history."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from builder.ingest.events import Events
from builder.ingest.pools import NO_POOL
from builder.ingest.split import PARTS

Part = Literal["train", "validate", "test"]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


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


def find_slates(events: Events, part: Part, *, min_events: int, max_events: int) -> Slates:
    """Slates of `part` whose user has at least `min_events` earlier events.

    If the split is `last_only`, only each user's last slate is taken. A slate has one user, one time, one context and
    one pool, as a request has. In a log with pools only events with a pool make slates, and slates stay whole; in
    other logs slates of more than `max_events` events are cut into several that share their history.
    """
    ts = np.asarray(events.ts_s)
    parts = events.parts()
    is_first, is_new = slate_starts(events, parts)
    start = np.flatnonzero(is_new)
    last = np.append(start[1:], len(ts))
    first = np.flatnonzero(is_first)[np.cumsum(is_first)[start] - 1]
    user = events.users()[first]
    keep = parts[start] == PARTS.index(part)
    if events.split.last_only:
        keep &= ts[first] == ts[events.offsets[user + 1] - 1]
    keep &= first - events.offsets[user] >= min_events
    if events.event_pool is not None:
        keep &= np.asarray(events.event_pool)[start] != NO_POOL
        max_events = len(ts)
    if events.is_target is not None:
        keep &= np.asarray(events.is_target)[start]
    user, start, last, first = user[keep], start[keep], last[keep], first[keep]
    pieces = -(-(last - start) // max_events)
    piece = np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    begin = np.repeat(start, pieces) + piece * max_events
    end = np.minimum(begin + max_events, np.repeat(last, pieces))
    return Slates(np.repeat(user, pieces), begin, end, np.repeat(first, pieces))


def slate_starts(events: Events, parts: NDArray[np.int8]) -> tuple[Flags, Flags]:
    """Which events are the first of their user's time, and which are the first of a slate; [E] each.

    Args:
        events: the log.
        parts: part of each event (`Events.parts`), [E].
    """
    ts, context, user = np.asarray(events.ts_s), np.asarray(events.context), events.users()
    is_first = np.ones(len(ts), bool)
    is_first[1:] = (ts[1:] != ts[:-1]) | (user[1:] != user[:-1])
    is_new = is_first.copy()
    is_new[1:] |= (parts[1:] != parts[:-1]) | (context[1:] != context[:-1]).any(1)
    if events.is_target is not None:
        is_target = np.asarray(events.is_target)
        is_new[1:] |= is_target[1:] != is_target[:-1]
    if events.event_pool is not None:
        pool = np.asarray(events.event_pool)
        is_new[1:] |= pool[1:] != pool[:-1]
    return is_first, is_new
