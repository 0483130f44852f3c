"""Events -> the candidates of the log's latest request, for the artifact."""

from collections.abc import Sequence

import numpy as np

from builder.ingest.events import Events
from builder.ingest.pools import NO_POOL
from models.contract.example_slate import ExampleSlate
from models.contract.schema import FIRST_KNOWN


def latest_slate(events: Events) -> ExampleSlate | None:
    """The whole pool of the latest event that has one; None for a log without pools."""
    if events.pools is None or events.event_pool is None:
        return None
    asked = np.flatnonzero(np.asarray(events.event_pool) != NO_POOL)
    if not len(asked):
        return None
    pool = int(events.event_pool[asked[np.argmax(events.ts_s[asked])]])
    part = slice(int(events.pools.first[pool]), int(events.pools.first[pool + 1]))
    rows, ids = np.asarray(events.pools.item[part]), np.asarray(events.pools.fields[part])
    is_known = rows >= FIRST_KNOWN
    items = events.vocabulary.items
    fields = {
        name: [_raw(values, one) for one in ids[is_known, column].tolist()]
        for column, (name, values) in enumerate(events.vocabulary.candidate.items())
    }
    return ExampleSlate([items[row - FIRST_KNOWN] for row in rows[is_known].tolist()], fields)


def _raw(values: Sequence[str], dense: int) -> str | None:
    return values[dense - FIRST_KNOWN] if dense >= FIRST_KNOWN else None
