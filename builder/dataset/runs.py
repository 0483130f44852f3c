"""Runs of events of one user and one time, and where a user's events begin."""

import numpy as np
from numpy.typing import NDArray

from builder.ingest.events import Events

Ints = NDArray[np.int64]


def time_runs(events: Events) -> Ints:
    """Index of the first event of each run of one user and one time, then the number of events; rising."""
    return _runs(events.users(), np.asarray(events.ts_s))


def slate_runs(events: Events) -> Ints:
    """As `time_runs`; in a split by event, the events of one user and time are a run for each part."""
    if not events.split.test_events:
        return time_runs(events)
    return _runs(events.users(), np.asarray(events.ts_s), events.parts())


def _runs(*columns: NDArray[np.integer]) -> Ints:
    size = len(columns[0])
    is_first = np.ones(size, bool)
    is_first[1:] = False
    for column in columns:
        is_first[1:] |= column[1:] != column[:-1]
    return np.append(np.flatnonzero(is_first), size)


def place_in(starts: Ints, event: Ints) -> Ints:
    """Place of the run that holds each event, [n].

    Args:
        starts: first event of each run, then the number of events; not decreasing.
        event: indices of events, [n].
    """
    return np.asarray(np.searchsorted(starts, event, side="right") - 1)
