"""Events of a history that share a target's item, its category or another field: how many, and how old.

The baselines' features and the report's breakdowns are made of these matches.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

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


@runtime_checkable
class Seen(Protocol):
    """Targets and the history before them: `Targets` is one, B slates of C targets."""

    @property
    def items(self) -> Ints:
        """Catalogue rows, [B, C]."""

    @property
    def mask(self) -> NDArray[np.bool_]:
        """False at padding, [B, C]."""

    @property
    def history(self) -> Ints:
        """Catalogue rows of the latest L events, the newest last, [B, L]."""

    @property
    def ages(self) -> Ints:
        """Their age buckets, [B, L]."""


def find_matches(
    keys: Sequence[NDArray[np.integer]], seen: Seen, recent_length: int
) -> HistoryMatches:
    """Find the matches of a batch's real targets.

    Args:
        keys: K arrays with a key for each catalogue row, [V] each.
        seen: the batch.
        recent_length: N, the number of latest events that `recent` counts in.
    """
    found = [_matches_of(key, seen, recent_length) for key in keys]
    columns = (np.stack(part, -1) for part in zip(*found, strict=True))
    return HistoryMatches(*columns)


def _matches_of(
    key: NDArray[np.integer], seen: Seen, recent_length: int
) -> tuple[Ints, Ints, Ints]:
    """Count, recent count and age of each real target: tables by key, slate by slate."""
    size = int(key.max(initial=0)) + 1
    recent_table, age_table = np.zeros(size, np.int64), np.full(size, PADDING, np.int64)
    counts, recents, ages = [], [], []
    for items, mask, history, age in zip(
        seen.items, seen.mask, seen.history, seen.ages, strict=True
    ):
        is_event = history != PADDING
        events, wanted = key[history[is_event]], key[items[mask]]
        recent = key[history[-recent_length:][is_event[-recent_length:]]]
        np.add.at(recent_table, recent, 1)
        age_table[events] = age[is_event]  # of equal keys the last one stays, which is the latest
        counts.append(np.bincount(events, minlength=size)[wanted])
        recents.append(recent_table[wanted])
        ages.append(age_table[wanted])
        recent_table[recent], age_table[events] = 0, PADDING
    return np.concatenate(counts), np.concatenate(recents), np.concatenate(ages)


def join_matches(parts: Iterable[HistoryMatches]) -> HistoryMatches:
    """Concatenate the matches of several batches."""
    columns = zip(*((part.count, part.recent, part.age) for part in parts), strict=True)
    return HistoryMatches(*(np.concatenate(column) for column in columns))
