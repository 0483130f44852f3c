"""Baseline: logistic regression on popularity and on counts in the same history.

A long-history model that scores below it is under-trained. Features of a candidate, from the latest L events and the
candidates that the models see: log(1 + popularity in the training period), and log(1 + n), where n counts the events
of the history that share the candidate's item; one such count for each other item field; and the values of its
candidate fields.
"""

from collections.abc import Callable, Sequence

import numpy as np

from builder.evaluate.baselines.base import Candidates, Features, Floats, Samples, one_hot
from builder.evaluate.logistic import fit_logistic

RIDGE = 1.0
"""Penalty on coefficients of standardised features, as scikit-learn's default."""


def count_features(sizes: Sequence[int]) -> Features:
    """Makes features [N, 1 + K + values]: popularity, the item fields' counts in order, the candidate fields' values.

    Args:
        sizes: numbers of ids of the candidate fields.
    """

    def features(candidates: Candidates) -> Floats:
        counts = np.column_stack([candidates.popularity, candidates.matches.count])
        return np.column_stack([np.log1p(counts), one_hot(candidates.fields, sizes)])

    return features


def fit_counts(samples: Samples) -> Callable[[Floats], Floats]:
    """Fit; return features [N, K] -> logits [N]."""
    mean, spread = samples.x.mean(0), samples.x.std(0)
    spread[spread == 0] = 1.0

    def widen(x: Floats) -> Floats:
        return np.column_stack([(x - mean) / spread, np.ones(len(x))])

    coefficients = fit_logistic(
        widen(samples.x), samples.label, samples.weight, samples.offset, RIDGE
    )
    return lambda x: np.asarray(widen(x) @ coefficients)
