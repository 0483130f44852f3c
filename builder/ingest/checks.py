"""What a recipe needs of a log: items to rank, times where it uses them, and targets in every part."""

import logging

import numpy as np
from numpy.typing import NDArray

from builder.errors import EventsError
from builder.ingest.clean import CleanLog
from builder.ingest.events import Events
from builder.ingest.split import PARTS
from builder.recipe.data import TIME_FIELDS
from builder.recipe.recipe import Recipe

logger = logging.getLogger(__name__)


def require_items(source: str, log: CleanLog) -> None:
    """Raise EventsError if the events have fewer than two distinct items."""
    count = log.events["item"].n_unique()
    if count < 2:
        raise EventsError(source, f"items: got {count} distinct item, expected at least 2 to rank")


def require_no_use_of_times(source: str, recipe: Recipe) -> None:
    """For a log without times: raise EventsError naming every key of the recipe that needs them."""
    split, min_events = recipe.split, recipe.history.min_events
    problems = [
        f"data.context_fields: got {name!r}, which comes from the time"
        for name in recipe.data.context_fields
        if name in TIME_FIELDS
    ]
    if not split.test_events and not split.test_users:
        problems.append(
            "split: got a split by time, expected split.validate_events and split.test_events "
            "(or validate_users and test_users)"
        )
    if min_events:
        problems.append(
            f"history.min_events: got {min_events}, expected 0: without times there is no history"
        )
    if recipe.negatives.own_past:
        problems.append(f"negatives.own_past: got {recipe.negatives.own_past:g}, expected 0")
    if recipe.negatives.window_hours is not None:
        problems.append(
            f"negatives.window_hours: got {recipe.negatives.window_hours:g}, expected it unset"
        )
    if problems:
        raise EventsError(source, f"the log has no times; {'; '.join(problems)}")


def require_targets(source: str, events: Events, min_events: int) -> None:
    """Raise EventsError unless every part has a positive with at least `min_events` events before it."""
    parts, is_target = events.parts(), _is_target(events, min_events)
    for place, name in enumerate(PARTS):
        in_part = parts == place
        num_targets = (in_part & is_target).sum()
        logger.info("%s: %d positive targets", name, num_targets)
        if not num_targets:
            raise EventsError(source, _no_target(name, int(in_part.sum()), events, min_events))


def _is_target(events: Events, min_events: int) -> NDArray[np.bool_]:
    """Positives with enough history, of a pool where there are pools; with `last_only`, at their user's latest time."""
    is_target: NDArray[np.bool_] = (events.label == 1) & (_num_before(events) >= min_events)
    if events.pools is not None and events.event_pool is not None:
        is_target &= events.pools.places(events.event_pool, events.item) >= 0
    if events.split.last_only:
        latest_s = events.ts_s[events.offsets[1:] - 1]
        is_target &= events.ts_s == latest_s[events.users()]
    return is_target


def _num_before(events: Events) -> NDArray[np.int64]:
    """Number of events of the same user that are strictly earlier, for each event. [E]."""
    user = events.users()
    is_first = np.ones(len(user), bool)
    is_first[1:] = (user[1:] != user[:-1]) | (events.ts_s[1:] != events.ts_s[:-1])
    group_start = np.maximum.accumulate(np.where(is_first, np.arange(len(user)), 0))
    return np.asarray(group_start - events.offsets[user], np.int64)


def _no_target(part: str, num_events: int, events: Events, min_events: int) -> str:
    split = events.split
    kind = "user split" if split.test_users else "event split" if split.test_events else "period"
    target = "a user's last positive" if split.last_only else "a positive"
    return (
        f"split: got no target to {part} on among the {num_events} events of its {kind}, expected at least one: "
        f"{target} with history.min_events = {min_events} events before it"
    )
