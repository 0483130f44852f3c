"""AUC by groups of targets: how long ago the history last shows the target's item or category, and in which part.

A model that reads only the latest events can rank what was bought yesterday. Items that were last bought months ago
show which models use the long part of the history.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from builder.evaluate.age_groups import AGES, age_groups
from builder.evaluate.predict import Predictions
from builder.ingest.events import Events
from models.contract.schema import FIRST_KNOWN

MIN_TARGETS = 200
"""Smallest group that is reported: with half of it clicked, the standard error of its AUC is at most about 0.04."""
PLACES = ("nowhere", "in the long part only", "in the latest N")


@dataclass(frozen=True)
class Group:
    """One group of targets: its AUC, and how many targets and positives it has."""

    auc: float
    targets: int
    positives: int


def breakdown_keys(events: Events) -> dict[str, NDArray[np.integer]]:
    """Keys of the breakdowns: the item, and the category where the catalogue has more than one."""
    keys: dict[str, NDArray[np.integer]] = {"item": np.arange(len(events.category))}
    category = np.asarray(events.category)
    if len(np.unique(category[FIRST_KNOWN:])) > 1:
        keys["category"] = category
    return keys


def break_down(predictions: Predictions, names: list[str]) -> dict[str, dict[str, Group]]:
    """Breakdown -> group -> AUC. Groups with fewer than `MIN_TARGETS` targets or a single label are left out.

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
        breakdowns[f"age of the latest event with the same {name}"] = _measure(
            predictions, age, AGES
        )
        place = np.where(matches.recent[:, column] > 0, 2, matches.count[:, column] > 0)
        breakdowns[f"where events with the same {name} are"] = _measure(predictions, place, PLACES)
    return breakdowns


def _measure(
    predictions: Predictions, group: NDArray[np.int64], labels: tuple[str, ...]
) -> dict[str, Group]:
    measured = {}
    for place, label in enumerate(labels):
        chosen = group == place
        truth = predictions.label[chosen]
        targets, positives = len(truth), int(truth.sum())
        if targets >= MIN_TARGETS and 0 < positives < targets:
            auc = float(roc_auc_score(truth, predictions.probability[chosen]))
            measured[label] = Group(auc, targets, positives)
    return measured
