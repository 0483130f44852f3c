"""Plots of the comparison."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from builder.experiments.promotions.rows import LONG
from builder.experiments.report.figure import new_figure

if TYPE_CHECKING:
    from builder.experiments.promotions.report import Trainings


def plot_curves(rows: Sequence["Trainings"], path: Path) -> Path:
    """Validation GAUC by step, every seed of every row; a dot where the kept weights are from."""
    trained = [row for row in rows if "training" in row.results[0]]
    figure = new_figure(12.0, 2.2 * (1 + len(trained) // 5))
    columns = 5
    low = min(p["gauc"] for row in trained for r in row.results for p in r["training"]["curve"])
    high = max(p["gauc"] for row in trained for r in row.results for p in r["training"]["curve"])
    for n, row in enumerate(trained):
        axes = figure.add_subplot(-(-len(trained) // columns), columns, n + 1)
        for result in row.results:
            curve = result["training"]["curve"]
            axes.plot([p["step"] for p in curve], [p["gauc"] for p in curve], lw=0.8)
            axes.plot(
                result["training"]["best_step"], result["training"]["best"]["gauc"], "k.", ms=3
            )
        axes.set_title(row.results[0]["title"], fontsize=6)
        axes.set_ylim(max(low, 0.86), high + 0.002)
        axes.tick_params(labelsize=5)
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=130)
    return path


def plot_bytes(rows: Sequence["Trainings"], path: Path) -> Path:
    """Test GAUC against the state's bytes; the line is the raw history's."""
    figure = new_figure(9.0, 6.0)
    axes = figure.add_subplot()
    for row in rows:
        size = max(row.results[0]["state_bytes"][str(LONG)], 8)
        value = float(row.values("gauc").mean())
        axes.plot(size, value, "o", ms=4)
        axes.annotate(
            row.label, (size, value), fontsize=6, xytext=(3, 3), textcoords="offset points"
        )
    axes.axvline(8 * LONG, color="grey", lw=0.8, ls="--")
    axes.set_xscale("log")
    axes.set_xlabel(f"bytes of a user's state at L = {LONG:,}")
    axes.set_ylabel("GAUC of test visits")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=130)
    return path
