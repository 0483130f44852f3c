"""What a target's history says of it: events that share its item, its category or another field, and how old they are.

Count features are made of it (`floor.py`, `floor_trees.py`), and groups of targets (`cuts.py`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from builder.dataset.batches import Targets
from builder.ingest.events import Events
from models.contract.schema import PADDING

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Evidence:
    """Of some targets in some keys, [targets, K] each. A history is the latest L events, as the models see it.

    Attributes:
        count: events of the history that share the target's key.
        recent: of these, among the latest N.
        age: bucket (`models/contract/age.py`) of the latest of these; `PADDING` where there is none.
    """

    count: Ints
    recent: Ints
    age: Ints


def field_keys(events: Events) -> dict[str, NDArray[np.integer]]:
    """For each item field but the popularity, what two catalogue rows must share to be the same, [V]."""
    keys: dict[str, NDArray[np.integer]] = {}
    fields = np.asarray(events.item_fields)
    for column, field in enumerate(events.schema.item_fields):
        if field.name != "popularity":
            # Column 0 counts catalogue rows rather than item ids: rare items share one id.
            keys[field.name] = np.arange(len(fields)) if column == 0 else fields[:, column]
    return keys


def find_evidence(
    keys: Sequence[NDArray[np.integer]], targets: Targets, recent_length: int
) -> Evidence:
    """Evidence for the real targets of a batch.

    Args:
        keys: of each catalogue row, [V] each.
        targets: of the batch.
        recent_length: N.
    """
    is_event = targets.history != PADDING
    found = []
    for key in keys:
        history = np.where(is_event, key[targets.history], -1)
        same = history[:, None, :] == key[targets.items][:, :, None]  # (U, C, L)
        latest = same.shape[2] - 1 - same[..., ::-1].argmax(-1)
        count = same.sum(-1)
        age = np.where(count > 0, np.take_along_axis(targets.ages, latest, 1), PADDING)
        found.append((count, same[..., -recent_length:].sum(-1), age))
    columns = (np.stack(part, -1)[targets.mask] for part in zip(*found, strict=True))
    return Evidence(*columns)


def join_evidence(parts: Iterable[Evidence]) -> Evidence:
    """Of batch after batch."""
    columns = zip(*((part.count, part.recent, part.age) for part in parts), strict=True)
    return Evidence(*(np.concatenate(column) for column in columns))
