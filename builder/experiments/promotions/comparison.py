"""Finished trainings of all rows, with intervals over households and paired differences."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from builder.experiments.promotions.bootstrap import bootstrap_mean
from builder.experiments.promotions.prepared import Prepared
from builder.experiments.promotions.rows import ROWS

REFERENCES = ("kernel", "counts")
"""Rows that every other row is compared with, visit by visit."""
PAIRED = ("gauc", "log_loss")
BOOTSTRAPPED = ("gauc", "gauc_repeat", "gauc_new")
METRICS = ("gauc", "auc", "ndcg", "recall", "log_loss", "pcoc", "ece")
T_95 = (float("nan"), 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306)
"""Student's t of 0 … 8 degrees of freedom."""
Interval = tuple[float, float, float]
"""Mean, lower end, upper end."""


@dataclass(frozen=True)
class Trainings:
    """All finished trainings of a row, by seed.

    Attributes:
        label: of the row.
        results: their JSON.
        vectors: their metrics of each visit.
    """

    label: str
    results: tuple[dict[str, Any], ...]
    vectors: tuple[dict[str, NDArray[Any]], ...]

    def values(self, name: str) -> NDArray[np.float64]:
        """A test metric of each seed."""
        return np.array([result["test"][name] for result in self.results])

    def of_visits(self, name: str) -> NDArray[np.float64]:
        """A metric of each visit, averaged over seeds."""
        mean: NDArray[np.float64] = np.mean([v[name] for v in self.vectors], 0, dtype=np.float64)
        return mean


@dataclass(frozen=True)
class Comparison:
    """What the tables show.

    Attributes:
        rows: finished trainings.
        intervals: label -> metric -> mean over visits with its interval over households.
        differences: reference -> label -> metric -> mean difference with its interval over households.
        trials: label -> best trial of the search, for rows without a finished training.
    """

    rows: list[Trainings]
    intervals: dict[str, dict[str, Interval]]
    differences: dict[str, dict[str, dict[str, Interval]]]
    trials: dict[str, dict[str, float]]


def compare(runs: Path, prepared: Prepared) -> Comparison:
    """Read trainings and compute intervals over households.

    Raises:
        FileNotFoundError: no training has finished.
        ValueError: two rows were measured on different visits.
    """
    rows = read_trainings(runs)
    intervals = {
        row.label: {
            name: bootstrap_mean(row.of_visits(name), _households(row, prepared))
            for name in BOOTSTRAPPED
        }
        for row in rows
    }
    differences = {
        reference.label: {
            row.label: {name: paired(row, reference, prepared, name) for name in PAIRED}
            for row in rows
            if row is not reference
        }
        for reference in rows
        if reference.label in REFERENCES
    }
    return Comparison(rows, intervals, differences, _trials(runs, {row.label for row in rows}))


def read_trainings(runs: Path) -> list[Trainings]:
    """All rows of a folder, in the comparison's order, baselines last.

    Raises:
        FileNotFoundError: there is none.
    """
    paths: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(runs.glob("**/[0-9]*.json")):
        paths[path.parent.name].append(path)
    if not paths:
        raise FileNotFoundError(f"{runs}: no finished training, expected LABEL/SEED.json")
    order = [label for label in ROWS if label in paths]
    rows = []
    for label in order + sorted(set(paths) - set(order)):
        results = tuple(json.loads(path.read_text()) for path in paths[label])
        vectors = tuple(_arrays(path.with_suffix(".npz")) for path in paths[label])
        rows.append(Trainings(label, results, vectors))
    return rows


def paired(row: Trainings, reference: Trainings, prepared: Prepared, name: str) -> Interval:
    """Mean difference of a metric per visit and its 95 % interval: bootstrap over households, seeds averaged.

    Raises:
        ValueError: the two were measured on different visits.
    """
    if not np.array_equal(row.vectors[0]["visit"], reference.vectors[0]["visit"]):
        raise ValueError(
            f"{row.label}: got other test visits than {reference.label}, expected the same"
        )
    gap = row.of_visits(name) - reference.of_visits(name)
    return bootstrap_mean(gap, _households(row, prepared))


def seed_interval(values: Sequence[float] | NDArray[np.float64]) -> float:
    """Half width of the 95 % interval of a mean over seeds (Student's t); NaN for one seed."""
    n = len(values)
    if n < 2:
        return float("nan")
    return float(T_95[min(n, len(T_95)) - 1] * np.std(values, ddof=1) / n**0.5)


def _households(row: Trainings, prepared: Prepared) -> NDArray[np.int64]:
    household: NDArray[np.int64] = prepared.household[row.vectors[0]["visit"]].astype(np.int64)
    return household


def _trials(runs: Path, finished: set[str]) -> dict[str, dict[str, float]]:
    """The best trial of each row that was searched and not trained to its end."""
    best = {}
    for path in sorted(runs.glob("**/search.json")):
        if path.parent.name not in finished:
            trials = json.loads(path.read_text())["trials"]
            best[path.parent.name] = max(trials, key=lambda trial: trial["gauc"])
    return best


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}
