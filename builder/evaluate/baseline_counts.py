"""The floor: logistic regression on popularity and on counts in the same history. What a sceptic would use instead.

A long-history model below it is under-trained, not finished. Features of a target, from the same latest L events and
the same drawn negatives that the models see: log(1 + training popularity), and log(1 + n) with n the events of the
history that share the target's item, and each of its other fields.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from builder.dataset.batches import Targets
from builder.evaluate.history_matches import field_keys, find_evidence
from builder.evaluate.metrics import Metrics, measure
from builder.ingest.events import Events

Floats = NDArray[np.float64]


def count_features(events: Events, targets: Targets) -> tuple[Floats, NDArray[np.float32]]:
    """Features and labels of the real targets of a batch: [targets, 1 + F], [targets]."""
    keys = list(field_keys(events).values())
    found = find_evidence(keys, targets, events.schema.recent_length)
    popularity = events.train_popularity[targets.items[targets.mask]]
    features = np.column_stack([np.log1p(popularity), np.log1p(found.count)])
    return features, targets.label[targets.mask]


def measure_floor(
    events: Events, train: Iterator[Targets], test: Iterator[Targets]
) -> tuple[Metrics, dict[str, float]]:
    """Fit on `train`, measure on `test`; also the weights, per standardised feature."""
    x, y, _ = _collect(events, train)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(x, y)
    x, y, user = _collect(events, test)
    metrics = measure(model.predict_proba(x)[:, 1], y, user)
    names = ["popularity", *(f"same {name}" for name in field_keys(events))]
    return metrics, dict(zip(names, model[-1].coef_[0].round(4).tolist(), strict=True))


def _collect(
    events: Events, batches: Iterator[Targets]
) -> tuple[Floats, NDArray[np.float32], NDArray[np.int64]]:
    features, labels, users = [], [], []
    for targets in batches:
        x, y = count_features(events, targets)
        features.append(x)
        labels.append(y)
        users.append(np.broadcast_to(targets.user[:, None], targets.mask.shape)[targets.mask])
    return np.concatenate(features), np.concatenate(labels), np.concatenate(users)
