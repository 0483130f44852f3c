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
    problems += [
        f'data.fields.{name}: got kind "date", whose age is measured from the time'
        for name, rule in recipe.data.fields.items()
        if rule.kind == "date"
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
    parts = events.parts()
    positives, negatives = (_targets_by_part(events, min_events, label) for label in (1, 0))
    for place, name in enumerate(PARTS):
        logger.info("%s: %d positive targets", name, positives[place])
        if not positives[place]:
            num_events = int((parts == place).sum())
            raise EventsError(source, _no_target(name, num_events, events, min_events))
        if events.has_impressions and not negatives[place]:
            template = "%s: all %d targets to %s on are positive: nothing tells them apart"
            logger.warning(template, source, positives[place], name)


def require_negatives(events: Events, min_events: int) -> None:
    """For a log with labels: raise EventsError unless there are negatives to train on, and to test on."""
    negatives = _targets_by_part(events, min_events, 0)
    for name in ("train", "test"):
        if events.has_impressions and not negatives[PARTS.index(name)]:
            raise EventsError(
                "events",
                f"label: got positives alone among the targets to {name} on, expected negatives too; for a log of "
                "positives leave out data.columns.label, and negatives are drawn",
            )


def _targets_by_part(events: Events, min_events: int, label: int) -> list[int]:
    """Number of targets of a label in each of `PARTS`."""
    parts, is_target = events.parts(), _is_target(events, min_events) & (events.label == label)
    return [int((is_target & (parts == place)).sum()) for place in range(len(PARTS))]


def _is_target(events: Events, min_events: int) -> NDArray[np.bool_]:
    """Events with enough history, of a pool where there are pools; with `last_only`, at their user's latest time."""
    is_target: NDArray[np.bool_] = _num_before(events) >= min_events
    if events.pools is not None and events.event_pool is not None:
        is_target &= events.pools.places(events.event_pool, events.item) >= 0
    if events.is_target is not None:
        is_target &= events.is_target
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
