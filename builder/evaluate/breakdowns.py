"""AUC of targets grouped by where their evidence lies: the latest event of the history with the same item or category.

A model that knows the latest events only can rank what was bought yesterday; what was bought a season ago tells the
long-history models apart.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from builder.evaluate.predict import Predictions
from builder.ingest.events import Events
from models.contract.age import age_buckets
from models.contract.schema import FIRST_KNOWN, PADDING

MIN_TARGETS = 200
"""Of a group, half of it clicked: the standard error of its AUC is then some 0.04 at most."""
EDGES_DAYS = (1, 8, 32, 91)
"""Just below the ends of age buckets, so that buckets fall into groups whole."""
AGES = ("never", "under 1 day", "1 to 8 days", "8 to 32 days", "32 to 91 days", "over 91 days")
PLACES = ("nowhere", "in the long part only", "in the latest N")


@dataclass(frozen=True)
class Group:
    """AUC within one group of targets, and how many there are."""

    auc: float
    targets: int
    positives: int


def cut_keys(events: Events) -> dict[str, NDArray[np.integer]]:
    """What the cuts look for: the item, and the group of items that negatives are drawn from, if there are several."""
    keys: dict[str, NDArray[np.integer]] = {"item": np.arange(len(events.category))}
    category = np.asarray(events.category)
    if len(np.unique(category[FIRST_KNOWN:])) > 1:
        keys["category"] = category
    return keys


def cut(predictions: Predictions, names: list[str]) -> dict[str, dict[str, Group]]:
    """Cut -> group -> AUC. Groups with fewer than `MIN_TARGETS` targets or a single label are left out.

    Args:
        predictions: with evidence.
        names: of the evidence's keys.

    Raises:
        ValueError: the predictions came without evidence.
    """
    if predictions.evidence is None:
        raise ValueError("predictions: got none with evidence, expected it for each key")
    found = predictions.evidence
    cuts = {}
    for column, name in enumerate(names):
        age = age_groups(found.age[:, column])
        cuts[f"age of the latest event with the same {name}"] = _measure(predictions, age, AGES)
        place = np.where(found.recent[:, column] > 0, 2, found.count[:, column] > 0)
        cuts[f"where events with the same {name} are"] = _measure(predictions, place, PLACES)
    return cuts


def age_groups(age: NDArray[np.int64]) -> NDArray[np.int64]:
    """Place in `AGES` of each age bucket."""
    edges = age_buckets(np.array(EDGES_DAYS) * 86_400) + 1
    groups = np.searchsorted(edges, age, side="right") + 1
    return np.where(age == PADDING, 0, groups)


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
