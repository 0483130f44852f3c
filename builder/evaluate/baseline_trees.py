"""The higher floor: boosted trees on counts and ages in the same history. What a sceptic with an afternoon would use.

Features of a target: those of `floor.py`, and for the item and each of its other fields log(1 + n) with n the events
among the latest N that share it, and the (logarithmic) age bucket of the latest event that does, missing if none does.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from builder.dataset.batches import Targets
from builder.errors import StepError
from builder.evaluate.history_matches import field_keys, find_evidence
from builder.evaluate.metrics import Metrics, measure
from builder.ingest.events import Events
from models.contract.schema import PADDING

Floats = NDArray[np.float64]
ROUNDS = 1000
"""Trees at most."""
PATIENCE = 50
"""Trees without a better validation log loss after which no more are added."""
OPTIONS: dict[str, Any] = {
    "objective": "binary", "learning_rate": 0.05, "num_leaves": 63, "min_data_in_leaf": 50,
    # One thread and rows in their order: the same trees each time, on any machine.
    "num_threads": 1, "deterministic": True, "force_row_wise": True, "seed": 0, "verbosity": -1,
}  # fmt: skip


def tree_features(events: Events, targets: Targets) -> Floats:
    """Features of the real targets of a batch: [targets, 1 + 3K] for K item fields."""
    keys = list(field_keys(events).values())
    found = find_evidence(keys, targets, events.schema.recent_length)
    age = np.where(found.age == PADDING, np.nan, found.age)
    popularity = events.train_popularity[targets.items[targets.mask]]
    counts = (np.log1p(part) for part in (popularity, found.count, found.recent))
    return np.column_stack([*counts, age])


def measure_trees(
    events: Events, train: Iterator[Targets], validate: Iterator[Targets], test: Iterator[Targets]
) -> Metrics:
    """Fit on `train`, stop by `validate`, measure on `test`.

    Raises:
        StepError: LightGBM's library cannot be loaded.
    """
    lightgbm = _lightgbm()
    x, y, _ = _collect(events, train)
    known = lightgbm.Dataset(x, y)
    x, y, _ = _collect(events, validate)
    stop = lightgbm.early_stopping(PATIENCE, verbose=False)
    trees = lightgbm.train(
        OPTIONS, known, ROUNDS, valid_sets=[known.create_valid(x, y)], callbacks=[stop]
    )
    x, y, user = _collect(events, test)
    probability = np.asarray(trees.predict(x, num_iteration=trees.best_iteration))
    return measure(probability, y, user)


def _lightgbm() -> Any:
    try:
        import lightgbm  # here: it loads a library that a bare system may lack
    except OSError as error:
        raise StepError(
            f"lightgbm: {error}; it needs the system's OpenMP (Debian, Ubuntu: apt install libgomp1)"
        ) from error
    return lightgbm


def _collect(
    events: Events, batches: Iterator[Targets]
) -> tuple[Floats, NDArray[np.float32], NDArray[np.int64]]:
    features, labels, users = [], [], []
    for targets in batches:
        features.append(tree_features(events, targets))
        labels.append(targets.label[targets.mask])
        users.append(np.broadcast_to(targets.user[:, None], targets.mask.shape)[targets.mask])
    return np.concatenate(features), np.concatenate(labels), np.concatenate(users)
