"""What a clean log holds: how long histories are, what is lost when they are cut, repeats, targets of each part."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from builder.ingest.clean import CleanLog
from builder.ingest.times import DAY_S

LENGTHS = (50, 200, 1_000)
"""History lengths whose losses are shown."""


@dataclass(frozen=True)
class Facts:
    """Counts of a log, after `data.filter`, missing values, returns and neutral ratings are dropped.

    Attributes:
        events: number of events.
        positives: number of them that are positive; a history holds these.
        users: number of users.
        items: number of items with an event.
        days: time between the first and the last event.
        first_s: epoch second of the first event.
        last_s: epoch second of the last event.
        has_days_only: all times are midnights.
        doubles: events that another one equals in user, item, time and label.
        repeats: share of positives whose item the same user took before.
        lengths: positives of each user, [U].
        before: positives of the same user strictly before each positive, [positives].
        times_s: epoch second of each positive, [positives].
        per_slate: mean number of positives of one user at one time.
    """

    events: int
    positives: int
    users: int
    items: int
    days: float
    first_s: int
    last_s: int
    has_days_only: bool
    doubles: int
    repeats: float
    lengths: NDArray[np.int64]
    before: NDArray[np.int64]
    times_s: NDArray[np.int64]
    per_slate: float

    def truncated(self, length: int) -> tuple[float, float]:
        """Share of users with more than `length` positives, and share of all positives that their histories lose."""
        lost = np.maximum(self.lengths - length, 0)
        return float((lost > 0).mean()), float(lost.sum() / max(1, self.lengths.sum()))

    def targets(self, low: float, high: float, min_events: int) -> int:
        """Positives between two shares of the log's times that have `min_events` others before them."""
        edges = np.quantile(self.times_s, [low, high], method="lower")
        inside = (self.times_s >= edges[0]) & ((self.times_s < edges[1]) | (high >= 1))
        return int((inside & (self.before >= min_events)).sum())


def count(log: CleanLog) -> Facts:
    """Count what is in a clean log."""
    events = log.events
    positive = events.filter(pl.col("label") == 1)
    first_s, last_s = int(log.times_s.min()), int(log.times_s.max())
    seen = positive.select(
        before=pl.col("ts_s").rank("min").over("user").cast(pl.Int64) - 1,
        is_repeat=pl.int_range(pl.len()).over("user", "item") > 0,
    )
    slates = positive.select("user", "ts_s").n_unique()
    return Facts(
        events=len(events),
        positives=len(positive),
        users=events["user"].n_unique(),
        items=events["item"].n_unique(),
        days=(last_s - first_s) / DAY_S,
        first_s=first_s,
        last_s=last_s,
        has_days_only=bool((events["ts_s"] % DAY_S == 0).all()),
        doubles=len(events) - events.select("user", "item", "ts_s", "label").n_unique(),
        repeats=float(seen["is_repeat"].mean() or 0.0),  # type: ignore[arg-type]
        lengths=positive.group_by("user").len()["len"].to_numpy().astype(np.int64),
        before=seen["before"].to_numpy(),
        times_s=positive["ts_s"].to_numpy(),
        per_slate=len(positive) / max(1, slates),
    )
