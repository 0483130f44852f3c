"""Baseline: logistic regression on popularity and on counts in the same history.

A long-history model that scores below it is under-trained. Features of a target, from the latest L events and the
candidates that the models see: log(1 + popularity in the training period), and log(1 + n), where n counts the events
of the history that share the target's item; one such count for each other item field.
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from builder.dataset.batches import Targets
from builder.evaluate.history_matches import field_keys, find_matches
from builder.evaluate.metrics import Metrics, measure
from builder.ingest.events import Events

Floats = NDArray[np.float64]


def measure_counts(events: Events, train: Iterator[Targets], test: Iterator[Targets]) -> Metrics:
    """Fit on `train`, measure on `test`."""

    def features(targets: Targets) -> Floats:
        return count_features(events, targets)

    x, y, _ = collect(train, features)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(x, y)
    x, y, user = collect(test, features)
    return measure(model.predict_proba(x)[:, 1], y, user)


def count_features(events: Events, targets: Targets) -> Floats:
    """Features of the real targets of a batch: [targets, 1 + F], popularity first, then the item fields in order."""
    keys = list(field_keys(events).values())
    matches = find_matches(keys, targets, events.schema.recent_length)
    popularity = events.train_popularity[targets.items[targets.mask]]
    return np.column_stack([np.log1p(popularity), np.log1p(matches.count)])


def collect(
    batches: Iterable[Targets], features: Callable[[Targets], Floats]
) -> tuple[Floats, NDArray[np.float32], NDArray[np.int64]]:
    """Features, labels and users of the real targets of all batches: [targets, K], [targets], [targets].

    Args:
        batches: what to collect from.
        features: makes the features of one batch's real targets, [targets, K].
    """
    rows, labels, users = [], [], []
    for targets in batches:
        rows.append(features(targets))
        labels.append(targets.label[targets.mask])
        users.append(np.broadcast_to(targets.user[:, None], targets.mask.shape)[targets.mask])
    return np.concatenate(rows), np.concatenate(labels), np.concatenate(users)
