"""A user's history as of the end of the log."""

import numpy as np
from numpy.typing import NDArray

from builder.ingest.events import Events
from models.contract.age import age_buckets
from models.contract.schema import PADDING


def latest_events(events: Events, user: int, length: int, as_of_s: int) -> NDArray[np.int64]:
    """Catalogue rows and age buckets of the latest positives, right-aligned: [2, length].

    Reads only this user's part of mapped files.

    Args:
        events: the log.
        user: index of the user.
        length: number of events; fewer are padded.
        as_of_s: `events.as_of_s`, which reads all events: look it up once for all users.
    """
    own = slice(int(events.offsets[user]), int(events.offsets[user + 1]))
    is_positive = events.label[own] == 1
    rows = events.item[own][is_positive][-length:].astype(np.int64)
    ages = age_buckets(as_of_s - events.ts_s[own][is_positive][-length:])
    padding = ((0, 0), (length - len(rows), 0))
    return np.pad(np.stack([rows, ages]), padding, constant_values=PADDING)
