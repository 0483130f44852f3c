"""Finished trainings -> table.md, table.json, and plots of learning curves and of GAUC against bytes."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from builder.experiments.promotions.audit import audit, write_audit
from builder.experiments.promotions.plots import plot_bytes, plot_curves
from builder.experiments.promotions.prepared import Prepared
from builder.experiments.promotions.rows import LONG, ROWS
from builder.experiments.report.markdown import markdown_table

REFERENCES = ("kernel", "counts")
DRAWS = 2000
METRICS = ("gauc", "auc", "ndcg", "recall", "log_loss", "pcoc", "ece")
T_95 = (float("nan"), 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306)
"""Student's t of 0 … 8 degrees of freedom."""


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


def read_trainings(runs: Path) -> list[Trainings]:
    """All rows of a folder, in the comparison's order, floors last.

    Raises:
        FileNotFoundError: there is none.
    """
    found: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(runs.glob("**/[0-9]*.json")):
        found[path.parent.name].append(path)
    if not found:
        raise FileNotFoundError(f"{runs}: no finished training, expected LABEL/SEED.json")
    order = [label for label in ROWS if label in found]
    rows = []
    for label in order + sorted(set(found) - set(order)):
        results = tuple(json.loads(path.read_text()) for path in found[label])
        vectors = tuple(_arrays(path.with_suffix(".npz")) for path in found[label])
        rows.append(Trainings(label, results, vectors))
    return rows


def write_report(runs: Path, prepared: Prepared, out: Path) -> list[Path]:
    """Write everything; return the paths.

    Raises:
        FileNotFoundError: no training has finished.
    """
    rows = read_trainings(runs)
    out.mkdir(parents=True, exist_ok=True)
    differences = {
        reference.label: {
            row.label: paired(row, reference, prepared) for row in rows if row is not reference
        }
        for reference in rows
        if reference.label in REFERENCES
    }
    table = out / "table.md"
    table.write_text(_text(rows, differences))
    numbers = out / "table.json"
    numbers.write_text(json.dumps(_numbers(rows, differences), indent=1))
    write_audit(audit(prepared), prepared, out)
    plots = [plot_curves(rows, out / "curves.png"), plot_bytes(rows, out / "bytes.png")]
    return [table, numbers, out / "audit.md", *plots]


def paired(row: Trainings, reference: Trainings, prepared: Prepared) -> tuple[float, float, float]:
    """Mean difference of GAUC per visit and its 95 % interval: bootstrap over households, seeds averaged.

    Raises:
        ValueError: the two were measured on other visits.
    """
    visits = row.vectors[0]["visit"]
    if not np.array_equal(visits, reference.vectors[0]["visit"]):
        raise ValueError(f"{row.label}: measured on other visits than {reference.label}")
    gap = row.of_visits("gauc") - reference.of_visits("gauc")
    is_there = np.isfinite(gap)
    house, gap = prepared.household[visits][is_there], gap[is_there]
    _, index = np.unique(house, return_inverse=True)
    total, count = np.bincount(index, gap), np.bincount(index)
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(total), size=(DRAWS, len(total)))
    means = total[drawn].sum(1) / count[drawn].sum(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(gap.mean()), float(low), float(high)


def interval(values: Sequence[float] | NDArray[np.float64]) -> float:
    """Half width of the 95 % interval of a mean over seeds (Student's t); NaN for one seed."""
    n = len(values)
    if n < 2:
        return float("nan")
    return float(T_95[min(n, len(T_95)) - 1] * np.std(values, ddof=1) / n**0.5)


def _text(
    rows: list[Trainings], differences: dict[str, dict[str, tuple[float, float, float]]]
) -> str:
    headings = [
        "model", "seeds", "GAUC", "AUC", "NDCG@10", "recall@10", "log loss ×10³", "PCOC", "ECE ×10⁴",
        "GAUC, bought before", "GAUC, new", *(f"GAUC less {name}" for name in differences), "state, bytes",
        "best step", "stopped",
    ]  # fmt: skip
    scale = {"log_loss": (1e3, 4), "ece": (1e4, 3), "pcoc": (1, 3)}
    body = []
    for row in rows:
        cells = [row.results[0]["title"], str(len(row.results))]
        for name in METRICS:
            factor, digits = scale.get(name, (1, 4))
            cells.append(_plus_minus(row.values(name) * factor, digits))
        cells += [f"{row.values(name).mean():.4f}" for name in ("gauc_repeat", "gauc_new")]
        cells += [_difference(found.get(row.label)) for found in differences.values()]
        cells += [f"{row.results[0]['state_bytes'][str(LONG)]:,}", *_ending(row)]
        body.append(cells)
    lines = markdown_table(headings, body)
    first = rows[0].results[0]["test"]
    note = (
        f"Test: whole pools of {len(rows[0].vectors[0]['visit']):,} visits, {first['candidates']:,} candidates, "
        f"{first['positives']:,} bought. GAUC: mean AUC of visits. ±: 95 % interval over seeds (Student's t). "
        "Differences: mean over visits with the 95 % interval of a bootstrap over households, seeds averaged. "
        f"State: bytes at L = {LONG:,}; the raw history, rows and ages, has {8 * LONG:,}. Stopped: by patience "
        "(else by steps)."
    )
    return "\n".join([*lines, "", note, ""])


def _ending(row: Trainings) -> tuple[str, str]:
    trained = [result["training"] for result in row.results if "training" in result]
    if not trained:
        return "", ""
    patient = sum(one["ended"] == "patience" for one in trained)
    return f"{np.mean([one['best_step'] for one in trained]):,.0f}", f"{patient} of {len(trained)}"


def _plus_minus(values: NDArray[np.float64], digits: int) -> str:
    half = interval(values)
    mean = f"{values.mean():.{digits}f}"
    return mean if np.isnan(half) else f"{mean} ± {half:.{digits}f}"


def _difference(found: tuple[float, float, float] | None) -> str:
    return "" if found is None else f"{found[0]:+.4f} ({found[1]:+.4f} to {found[2]:+.4f})"


def _numbers(
    rows: list[Trainings], differences: dict[str, dict[str, tuple[float, float, float]]]
) -> dict[str, Any]:
    means = {
        row.label: {name: [row.values(name).mean(), interval(row.values(name))] for name in METRICS}
        | {"seeds": len(row.results), "state_bytes": row.results[0]["state_bytes"]}
        for row in rows
    }
    return {"rows": means, "differences": differences}


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}
