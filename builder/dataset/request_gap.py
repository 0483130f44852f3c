"""How long after a user's newest event a request comes: what folded states measure ages by (`models/live/ages.py`)."""

import numpy as np

from builder.dataset.parts import part_slates
from builder.ingest.events import Events
from builder.recipe.recipe import Recipe

DAY_S = 86_400
ENOUGH = 100
"""Fewest slates of which the gap is taken; with fewer, it is that of all slates."""


def request_gap_s(events: Events, recipe: Recipe, cut_s: int, rebuild_days: float = 1.0) -> int:
    """Median seconds from the newest event of a history to its slate, of training slates that meet folded states.

    With a build every night, at the hour of `cut_s`, a slate meets a folded state if its newest event is not before the
    last of them. Where hardly any is (users who come once a day), all slates with a history count.

    Args:
        events: the log.
        recipe: of the build.
        cut_s: epoch second of a build.
        rebuild_days: days from one build to the next.

    Returns:
        0 for a log without times.
    """
    if not events.has_times:
        return 0
    slates = part_slates(events, recipe, "train")
    ts_s = np.asarray(events.ts_s)
    label = np.asarray(events.label)
    # Histories hold positives only.
    newest = np.maximum.accumulate(np.where(label > 0, np.arange(len(ts_s)), -1))
    before = np.where(slates.first > 0, newest[slates.first - 1], -1)
    has_history = before >= np.asarray(events.offsets)[slates.user]
    newest_s, now_s = ts_s[before[has_history]], ts_s[slates.first[has_history]]
    every_s = rebuild_days * DAY_S
    built_s = cut_s + np.floor((now_s - cut_s) / every_s) * every_s
    gaps_s = now_s - newest_s
    is_folded = newest_s >= built_s
    if is_folded.sum() >= ENOUGH:
        gaps_s = gaps_s[is_folded]
    return int(np.median(gaps_s)) if len(gaps_s) else 0
