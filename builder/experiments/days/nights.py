"""A log cut at midnight: what a night's training may read, and what the day after is scored on.

Night k ends at `cut_s`. Its training gets a log whose events from the cut on are gone before any id is given, so no
label, count, item, value or pool of the day that is scored can reach it. The day is scored on a log that ends with that
day, cut by the same split: the same vocabulary, row by row, which `scored_events` checks.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import polars as pl

from builder.errors import StepError
from builder.ingest.assemble import assemble
from builder.ingest.clean import CleanLog, clean
from builder.ingest.events import Events
from builder.ingest.sources import SOURCES
from builder.ingest.split import DAY_S, Split, cut
from builder.recipe.recipe import Recipe


@dataclass(frozen=True)
class Night:
    """One night of the simulation.

    Attributes:
        number: 0 for the night before the first day; night k comes before day k + 1.
        train_from_s: targets from here are for training.
        validate_from_s: targets from here to the cut choose the step that is kept.
        cut_s: epoch second; the night's build knows the events before it.
    """

    number: int
    train_from_s: int
    validate_from_s: int
    cut_s: int

    def split(self, end_s: int) -> Split:
        """The night's split of a log that ends at an epoch second; from the cut on, targets are for tests."""
        return Split(self.train_from_s, self.validate_from_s, self.cut_s, end_s)


def nights_of(log: CleanLog, recipe: Recipe, days: int, validate_days: float) -> list[Night]:
    """The nights before each of `days` days, which follow the recipe's `test_from`.

    Raises:
        StepError: the recipe does not split by time, or the log ends before the last day.
    """
    rule = recipe.split
    if rule.test_users or rule.test_events or rule.last_only:
        raise StepError("simulate-days, split: got one by user or by event, expected one by time")
    times_s = log.times_s
    if not times_s.max():
        raise StepError("simulate-days, data: got a log without times, expected one with times")
    own = cut(times_s, log.target_times_s(False), rule)
    nights = []
    for number in range(days):
        cut_s = own.test_from_s + number * DAY_S
        validate_from_s = cut_s - int(validate_days * DAY_S)
        nights.append(Night(number, own.train_from_s, validate_from_s, cut_s))
    if nights[0].validate_from_s <= own.train_from_s:
        raise StepError(f"simulate-days, validate_days: got {validate_days}, expected fewer")
    if nights[-1].cut_s >= int(times_s.max()):
        left = (int(times_s.max()) - own.test_from_s) // DAY_S + 1
        raise StepError(f"simulate-days, days: got {days}, expected at most {left}")
    return nights


def read_log(recipe: Recipe) -> CleanLog:
    """The recipe's whole log, cleaned."""
    raw = SOURCES[recipe.data.source].read(recipe)
    return clean(raw, recipe.data, time.time())


def trained_events(log: CleanLog, night: Night, recipe: Recipe) -> Events:
    """What the night's training reads: nothing from its cut on."""
    return assemble(_before(log, night.cut_s), night.split(night.cut_s), recipe)


def scored_events(log: CleanLog, built: Night, cut_s: int, recipe: Recipe) -> Events:
    """The log of the build of night `built` and of all events up to the end of a day; its test part is that day.

    Args:
        log: the whole log.
        built: the night whose vocabulary the model has.
        cut_s: epoch second at which the day begins; at or after the build's cut.
        recipe: of the build.
    """
    night = replace(built, cut_s=cut_s)
    end_s = cut_s + DAY_S
    return assemble(_before(log, end_s), night.split(end_s), recipe)


def require_same_values(trained: Events, scored: Events) -> None:
    """Raise StepError unless all ids of two logs mean the same."""
    pairs: Sequence[tuple[str, object, object]] = (
        ("item values", trained.item_values, scored.item_values),
        ("vocabulary", trained.vocabulary.to_bytes(), scored.vocabulary.to_bytes()),
        ("item fields", trained.item_fields.tobytes(), scored.item_fields.tobytes()),
    )
    for name, one, other in pairs:
        if one != other:
            raise StepError(f"simulate-days, {name}: got others a day later, expected the same")


def _before(log: CleanLog, end_s: int) -> CleanLog:
    """The log without its events from `end_s` on, and without the pools that only they name."""
    events = log.events.filter(pl.col("ts_s") < end_s)
    if log.pools is None:
        return replace(log, events=events)
    named = events["pool"].unique()
    candidates = log.pools.candidates.filter(pl.col("pool").is_in(named.implode()))
    return replace(log, events=events, pools=replace(log.pools, candidates=candidates))
