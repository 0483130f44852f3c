"""Stronger baseline: boosted trees on counts and ages in the same history.

Features of a candidate: those of `counts.py`; and, for the item and for each other item field, log(1 + n),
where n counts the latest N events that share it, and the (logarithmic) age bucket of the latest event that shares it,
missing where no event does.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from builder.errors import StepError
from builder.evaluate.baselines.base import Candidates, Floats, Samples
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
    "boost_from_average": False,  # the offset is where boosting begins
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "seed": 0,
    "verbosity": -1,
}


def tree_features(candidates: Candidates) -> Floats:
    """Features [N, 1 + 3K + Fs] for K item fields and Fs candidate fields; the latter are last, as ids."""
    matches = candidates.matches
    age = np.where(matches.age == PADDING, np.nan, matches.age)
    counts = (np.log1p(part) for part in (candidates.popularity, matches.count, matches.recent))
    return np.column_stack([*counts, age, candidates.fields])


def fit_trees(train: Samples, validate: Samples, num_fields: int) -> Callable[[Floats], Floats]:
    """Fit on `train`, stop early by the log loss on `validate`; return features [N, K] -> logits [N].

    Args:
        train: samples to fit on.
        validate: samples to stop by.
        num_fields: Fs, the number of last features that are ids.

    Raises:
        StepError: LightGBM's shared library cannot be loaded.
    """
    lightgbm = _lightgbm()
    width = train.x.shape[1]
    start = _log_odds(train)
    known, held_out = (
        lightgbm.Dataset(
            samples.x,
            samples.label,
            weight=samples.weight,
            init_score=samples.offset + start,
            categorical_feature=list(range(width - num_fields, width)),
        )
        for samples in (train, validate)
    )
    held_out.set_reference(known)
    stop = lightgbm.early_stopping(PATIENCE, verbose=False)
    trees = lightgbm.train(OPTIONS, known, ROUNDS, valid_sets=[held_out], callbacks=[stop])
    best = trees.best_iteration
    return lambda x: start + np.asarray(trees.predict(x, num_iteration=best, raw_score=True))


def _log_odds(samples: Samples) -> float:
    """Of the labels, less the mean offset: where boosting begins."""
    share = np.average(samples.label, weights=samples.weight)
    share = np.clip(share, 1e-6, 1 - 1e-6)
    return float(np.log(share / (1 - share)) - np.average(samples.offset, weights=samples.weight))


def _lightgbm() -> Any:
    try:
        import lightgbm  # here: it loads a shared library that a minimal system lacks
    except OSError as error:
        raise StepError(
            f"lightgbm: {error}; it needs the system's OpenMP (Debian, Ubuntu: apt install libgomp1)"
        ) from error
    return lightgbm
