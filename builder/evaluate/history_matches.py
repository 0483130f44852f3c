"""Events of a history that share a target's item, its category or another field: how many, and how old.

The baselines' features and the report's breakdowns are made of these matches.
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
class HistoryMatches:
    """Matches of targets under K keys, [targets, K] each. A history is the latest L events, as the models see it.

    Attributes:
        count: number of events in the history that share the target's key.
        recent: number of such events among the latest N.
        age: age bucket (`models/contract/age.py`) of the latest such event; `PADDING` where there is none.
    """

    count: Ints
    recent: Ints
    age: Ints


def field_keys(events: Events) -> dict[str, NDArray[np.integer]]:
    """Name of each item field except popularity -> key of every catalogue row, [V]; equal keys match."""
    keys: dict[str, NDArray[np.integer]] = {}
    fields = np.asarray(events.item_fields)
    for column, field in enumerate(events.schema.item_fields):
        if field.name != "popularity":
            # By catalogue row, not by item id: rare items share one id.
            keys[field.name] = np.arange(len(fields)) if column == 0 else fields[:, column]
    return keys


def find_matches(
    keys: Sequence[NDArray[np.integer]], targets: Targets, recent_length: int
) -> HistoryMatches:
    """Find the matches of a batch's real targets.

    Args:
        keys: K arrays with a key for each catalogue row, [V] each.
        targets: the batch.
        recent_length: N, the number of latest events that `recent` counts in.
    """
    is_event = targets.history != PADDING
    by_key = []
    for key in keys:
        history = np.where(is_event, key[targets.history], -1)
        same = history[:, None, :] == key[targets.items][:, :, None]  # (U, C, L)
        latest = same.shape[2] - 1 - same[..., ::-1].argmax(-1)
        count = same.sum(-1)
        age = np.where(count > 0, np.take_along_axis(targets.ages, latest, 1), PADDING)
        by_key.append((count, same[..., -recent_length:].sum(-1), age))
    columns = (np.stack(part, -1)[targets.mask] for part in zip(*by_key, strict=True))
    return HistoryMatches(*columns)


def join_matches(parts: Iterable[HistoryMatches]) -> HistoryMatches:
    """Concatenate the matches of several batches."""
    columns = zip(*((part.count, part.recent, part.age) for part in parts), strict=True)
    return HistoryMatches(*(np.concatenate(column) for column in columns))
