"""AUC by groups of targets: how long ago the history last shows the target's item or category, and in which part.

A model that reads only the latest events can rank what was bought yesterday. Items that were last bought months ago
show which models use the long part of the history.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from builder.evaluate.metrics.groups import AGES, age_groups, history_groups
from builder.evaluate.metrics.targets import auc
from builder.evaluate.predict import Predictions
from builder.ingest.events import Events
from models.contract.schema import FIRST_KNOWN

MIN_TARGETS = 200
"""Smallest group that gets an AUC: with half of it clicked, its standard error is at most about 0.04."""
PLACES = ("nowhere", "in the long part only", "in the latest N")


@dataclass(frozen=True)
class Group:
    """One group of targets. A group of one label shows what gives the label away, so it is reported like the others.

    Attributes:
        auc: of its targets; None if they have one label or are fewer than `MIN_TARGETS`.
        targets: number of targets.
        positives: number of positives.
        share: positives / targets.
        slate_auc: mean over its positives of the share of the negatives of their slate below them; None where slates
            are not whole, or without a positive.
    """

    auc: float | None
    targets: int
    positives: int
    share: float
    slate_auc: float | None = None


def breakdown_keys(events: Events) -> dict[str, NDArray[np.integer]]:
    """Keys of the breakdowns: the item, and the category where the catalogue has more than one."""
    keys: dict[str, NDArray[np.integer]] = {"item": np.arange(len(events.category))}
    category = np.asarray(events.category)
    if len(np.unique(category[FIRST_KNOWN:])) > 1:
        keys["category"] = category
    return keys


def break_down(predictions: Predictions, names: list[str]) -> dict[str, dict[str, Group]]:
    """Breakdown -> group -> its targets; groups without a target are left out.

    Args:
        predictions: predictions for the test period, with history matches.
        names: names of the matches' keys, in order.

    Raises:
        ValueError: the predictions hold no history matches.
    """
    if predictions.matches is None:
        raise ValueError("predictions: got no history matches, expected them for each key")
    matches = predictions.matches
    breakdowns = {}
    for column, name in enumerate(names):
        age = age_groups(matches.age[:, column])
        breakdowns[f"age of the latest event with the same {name}"] = measure_groups(
            predictions, age, AGES
        )
        place = np.where(matches.recent[:, column] > 0, 2, matches.count[:, column] > 0)
        breakdowns[f"where events with the same {name} are"] = measure_groups(
            predictions, place, PLACES
        )
    return breakdowns


def break_down_history(predictions: Predictions) -> dict[str, Group]:
    """Number of events in the history, "low-high" -> its targets."""
    names, group = history_groups(predictions.history)
    return measure_groups(predictions, group, names)


def measure_groups(
    predictions: Predictions, group: NDArray[np.int64], labels: Sequence[str]
) -> dict[str, Group]:
    """Group -> its targets; groups without a target are left out.

    Args:
        predictions: of targets.
        group: of each target, an index into `labels`.
        labels: names of the groups.
    """
    measured = {}
    for place, label in enumerate(labels):
        chosen = group == place
        truth = predictions.label[chosen]
        targets, positives = len(truth), int(truth.sum())
        if targets:
            own = None
            if targets >= MIN_TARGETS and 0 < positives < targets:
                own = auc(predictions.probability[chosen], truth)
            measured[label] = Group(own, targets, positives, positives / targets)
    return measured
