"""Finished trainings -> table.md, table.json, audit.md, and plots of learning curves and of GAUC against bytes."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from builder.experiments.promotions.audit import audit, write_audit
from builder.experiments.promotions.comparison import (
    METRICS,
    Comparison,
    compare,
    seed_interval,
)
from builder.experiments.promotions.plots import plot_bytes, plot_curves
from builder.experiments.promotions.prepared import Prepared
from builder.experiments.promotions.tables import write_tables


def write_report(runs: Path, prepared: Prepared, out: Path) -> list[Path]:
    """Write tables, audit and plots; return the paths.

    Raises:
        FileNotFoundError: no training has finished.
        ValueError: two rows were measured on different visits.
    """
    comparison = compare(runs, prepared)
    out.mkdir(parents=True, exist_ok=True)
    table, numbers = out / "table.md", out / "table.json"
    table.write_text(write_tables(comparison))
    numbers.write_text(json.dumps(_numbers(comparison), indent=1))
    write_audit(audit(prepared), prepared, out)
    plots = [
        plot_curves(comparison.rows, out / "curves.png"),
        plot_bytes(comparison.rows, out / "bytes.png"),
    ]
    return [table, numbers, out / "audit.md", *plots]


def _numbers(comparison: Comparison) -> dict[str, Any]:
    means = {
        row.label: {
            name: [row.values(name).mean(), _or_none(seed_interval(row.values(name)))]
            for name in METRICS
        }
        | {"seeds": len(row.results), "state_bytes": row.results[0]["state_bytes"]}
        for row in comparison.rows
    }
    return {
        "rows": means,
        "intervals_over_households": comparison.intervals,
        "differences": comparison.differences,
        "searched_only": comparison.trials,
    }


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value
