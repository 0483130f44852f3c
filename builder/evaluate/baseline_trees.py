"""Stronger baseline: boosted trees on counts and ages in the same history.

Features of a target: those of `baseline_counts.py`; and, for the item and for each other item field, log(1 + n), where
n counts the latest N events that share it, and the (logarithmic) age bucket of the latest event that shares it,
missing where no event does.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from builder.dataset.batches import Targets
from builder.errors import StepError
from builder.evaluate.baseline_counts import Floats, collect
from builder.evaluate.history_matches import field_keys, find_matches
from builder.evaluate.metrics import Metrics, measure
from builder.ingest.events import Events
from models.contract.schema import PADDING

ROUNDS = 1000
"""Largest number of trees."""
PATIENCE = 50
"""Boosting stops after this many trees without a better validation log loss."""
# One thread and row-wise histograms: the same trees in every run, on every machine.
OPTIONS: dict[str, Any] = {
    "objective": "binary",
    "learning_rate": 0.05,
    "num_leaves": 63,
    "min_data_in_leaf": 50,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "seed": 0,
    "verbosity": -1,
}


def tree_features(events: Events, targets: Targets) -> Floats:
    """Features of the real targets of a batch: [targets, 1 + 3K] for K item fields."""
    keys = list(field_keys(events).values())
    matches = find_matches(keys, targets, events.schema.recent_length)
    age = np.where(matches.age == PADDING, np.nan, matches.age)
    popularity = events.train_popularity[targets.items[targets.mask]]
    counts = (np.log1p(part) for part in (popularity, matches.count, matches.recent))
    return np.column_stack([*counts, age])


def measure_trees(
    events: Events, train: Iterator[Targets], validate: Iterator[Targets], test: Iterator[Targets]
) -> Metrics:
    """Fit on `train`, stop early by the log loss on `validate`, measure on `test`.

    Raises:
        StepError: LightGBM's shared library cannot be loaded.
    """

    def features(targets: Targets) -> Floats:
        return tree_features(events, targets)

    lightgbm = _lightgbm()
    x, y, _ = collect(train, features)
    known = lightgbm.Dataset(x, y)
    x, y, _ = collect(validate, features)
    stop = lightgbm.early_stopping(PATIENCE, verbose=False)
    trees = lightgbm.train(
        OPTIONS, known, ROUNDS, valid_sets=[known.create_valid(x, y)], callbacks=[stop]
    )
    x, y, user = collect(test, features)
    probability = np.asarray(trees.predict(x, num_iteration=trees.best_iteration))
    return measure(probability, y, user)


def _lightgbm() -> Any:
    try:
        import lightgbm  # here: it loads a shared library that a minimal system lacks
    except OSError as error:
        raise StepError(
            f"lightgbm: {error}; it needs the system's OpenMP (Debian, Ubuntu: apt install libgomp1)"
        ) from error
    return lightgbm
