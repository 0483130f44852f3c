"""Baselines on counts and ages: logistic regression and boosted trees, on the same test visits."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from builder.experiments.promotions.embeddings import COLUMNS
from builder.experiments.promotions.evaluation import TEST_VISITS, VISIT_METRICS, visits_of
from builder.experiments.promotions.metrics import measure_visits, overall
from builder.experiments.promotions.prepared import Prepared
from builder.experiments.promotions.rows import LONG
from builder.experiments.promotions.task import MAX_POSITIVES, NEGATIVES

Matrix = NDArray[np.float32]
Predict = Callable[[Matrix], NDArray[np.floating]]
NEVER_H = 1 << 14
"""Hours that stand for "never bought"."""
ROUNDS = 300


def features(
    prepared: Prepared, visit: int, places: NDArray[np.int64], length: int = LONG
) -> Matrix:
    """Log counts and log ages (hours) of item, type, category and maker in the latest events; popularity; placement.

    Args:
        prepared: the task.
        visit: whose candidates they are.
        places: of candidates in the pool.
        length: L.

    Returns:
        [C, 11]: 4 counts, 4 ages, popularity, display, mailer.
    """
    at = prepared.pool_of(visit).start + places
    rows = prepared.pool_row[at]
    begin = max(int(prepared.start[visit]), int(prepared.end[visit]) - length)
    events = prepared.event_row[begin : prepared.end[visit]]
    hours = int(prepared.hour[visit]) - prepared.event_hour[begin : prepared.end[visit]].astype(int)
    columns = []
    for column in COLUMNS:
        key = (
            np.arange(len(prepared.item_fields)) if column < 0 else prepared.item_fields[:, column]
        )
        size = int(key.max()) + 1
        times = np.bincount(key[events], minlength=size)
        latest = np.full(size, NEVER_H)
        latest[key[events]] = hours  # the last one written is the latest event
        known = (key[rows] > 1) | (column < 0)
        columns += [np.log1p(times[key[rows]] * known)]
        columns += [np.log1p(np.where(known, latest[key[rows]], NEVER_H))]
    columns.append(prepared.item_fields[rows, 4])
    columns += [prepared.pool_display[at], prepared.pool_mailer[at]]
    return np.stack(columns, 1).astype(np.float32)


def run_baselines(
    prepared: Prepared, out: Path, visits: int, test_visits: int, say: Callable[[str], None]
) -> None:
    """Fit both on sampled candidates of `visits` training visits; write LABEL/0.json and .npz into `out`."""
    x, y, offset = _sample(prepared, visits_of(prepared, "train", visits))
    say(f"{len(y):,} candidates, {int(y.sum()):,} positives")
    test = visits_of(prepared, "test", test_visits or TEST_VISITS)
    for label, title, fit in (
        ("baseline-logistic", "baseline: logistic regression", _logistic),
        ("baseline-trees", "baseline: boosted trees", _trees),
    ):
        begun = time.monotonic()
        predict = fit(x, y, offset)
        say(f"{label}: fitted in {time.monotonic() - begun:.0f} s")
        metrics, vectors = measure_baseline(prepared, test, predict)
        folder = out / label
        folder.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(folder / "0.npz", visit=test.astype(np.int32), **vectors)  # type: ignore[arg-type]
        result: dict[str, Any] = {
            "label": label,
            "title": title,
            "seed": 0,
            "length": LONG,
            "test": metrics,
            "state_bytes": {str(LONG): 8 * LONG},
            "visits": visits,
        }
        (folder / "0.json").write_text(json.dumps(result, indent=1))
        say(
            f"{label}: auc {metrics['auc']:.4f} gauc {metrics['gauc']:.4f} loss {metrics['log_loss']:.6f}"
        )


def _sample(
    prepared: Prepared, visits: NDArray[np.int64]
) -> tuple[Matrix, NDArray[np.float32], NDArray[np.float32]]:
    """Features, labels and offsets of all positives and of `NEGATIVES` others of each visit."""
    rng = np.random.default_rng(0)
    parts, labels, offsets = [], [], []
    for visit in visits.tolist():
        label = prepared.labels_of(visit)
        others = np.flatnonzero(~label)
        places = np.r_[
            np.flatnonzero(label), rng.choice(others, min(NEGATIVES, len(others)), replace=False)
        ]
        parts.append(features(prepared, visit, places))
        labels.append(label[places])
        offsets.append(np.full(len(places), np.log(len(others) / min(NEGATIVES, len(others)))))
    return (
        np.concatenate(parts),
        np.concatenate(labels).astype(np.float32),
        np.concatenate(offsets).astype(np.float32),
    )


def _logistic(x: Matrix, y: NDArray[np.float32], offset: NDArray[np.float32]) -> Predict:
    """Linear in the features, with placements one-hot; the mean offset is taken off (pools are alike in size)."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    codes = int(x[:, 9].max()) + 1, int(x[:, 10].max()) + 1

    def widen(values: Matrix) -> Matrix:
        hot = [values[:, 9 + i, None] == np.arange(n) for i, n in enumerate(codes)]
        return np.concatenate([values[:, :9], values[:, 8:9] ** 2, *hot], 1).astype(np.float32)

    scaler = StandardScaler().fit(widen(x))
    model = LogisticRegression(max_iter=500).fit(scaler.transform(widen(x)), y)
    shift = float(offset.mean())
    return lambda values: model.decision_function(scaler.transform(widen(values))) - shift


def _trees(x: Matrix, y: NDArray[np.float32], offset: NDArray[np.float32]) -> Predict:
    import lightgbm

    data = lightgbm.Dataset(x, y, init_score=offset, categorical_feature=[9, 10])
    options = {
        "objective": "binary",
        "learning_rate": 0.05,
        "num_leaves": 31,
        "min_data_in_leaf": 100,
        "verbose": -1,
        "num_threads": 1,
        "seed": 0,
        "boost_from_average": False,
    }
    model = lightgbm.train(options, data, ROUNDS)
    return lambda values: np.asarray(model.predict(values, raw_score=True, num_threads=1))


def measure_baseline(
    prepared: Prepared, visits: NDArray[np.int64], predict: Predict
) -> tuple[dict[str, float], dict[str, NDArray[np.float32]]]:
    """The metrics of `evaluation.evaluate`, of whole pools."""
    logits, labels, columns = [], [], []
    for visit in visits.tolist():
        label = torch.from_numpy(prepared.labels_of(visit)).float()[None]
        x = features(prepared, visit, np.arange(label.shape[1]))
        logit = torch.from_numpy(np.asarray(predict(x), np.float32))[None]
        real = torch.ones_like(label, dtype=torch.bool)
        repeat = torch.from_numpy(x[:, 0] > 0)[None]
        columns.append(asdict(measure_visits(logit, label, real, repeat, MAX_POSITIVES)))
        logits.append(logit[0])
        labels.append(label[0])
    vectors = {
        name: torch.cat([column[name] for column in columns]).numpy().astype(np.float32)
        for name in columns[0]
    }
    means = {name: float(np.nanmean(vectors[name])) for name in VISIT_METRICS}
    return overall(logits, labels) | means, vectors
