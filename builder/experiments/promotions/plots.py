"""Plots of the comparison."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from builder.experiments.promotions.rows import LONG
from builder.experiments.report.figure import new_figure
from builder.experiments.report.labels import Label, place_labels

if TYPE_CHECKING:
    from builder.experiments.promotions.comparison import Trainings

BYTES = (0, 4096, 8192, 16384, 32768, 65536)
"""Ticks of the axis of sizes."""


def plot_curves(rows: Sequence["Trainings"], path: Path) -> Path:
    """Validation GAUC by step: a panel for each row, a line for each seed, a dot at the step of the kept weights."""
    trained = [row for row in rows if "training" in row.results[0]]
    figure = new_figure(12.0, 2.2 * (1 + len(trained) // 5))
    columns = 5
    low = min(p["gauc"] for row in trained for r in row.results for p in r["training"]["curve"])
    high = max(p["gauc"] for row in trained for r in row.results for p in r["training"]["curve"])
    longest = max(result["training"]["steps"] for row in trained for result in row.results)
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
        axes.set_xlim(0, longest)
        axes.tick_params(labelsize=5)
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=90)
    return path


def plot_bytes(rows: Sequence["Trainings"], path: Path) -> Path:
    """Test GAUC against the state's bytes; the dashed line is the raw history's size."""
    figure = new_figure(10.0, 7.0)
    axes = figure.add_subplot()
    labels = []
    for place, row in enumerate(rows):
        size = float(row.results[0]["state_bytes"][str(LONG)])
        gauc, color = float(row.values("gauc").mean()), f"C{place % 10}"
        axes.plot(size, gauc, "o", ms=4, color=color)
        labels.append(Label(size, gauc, 0.0, row.label, color))
    axes.axvline(8 * LONG, color="grey", lw=0.8, ls="--")
    axes.set_xscale("symlog", linthresh=4096)  # a model without history has no state
    axes.set_xlim(-500, 100_000)
    axes.set_xticks(BYTES, [f"{size:,}" for size in BYTES])
    axes.set_xlabel(f"bytes of a user's state at L = {LONG:,}")
    axes.set_ylabel("GAUC of test visits")
    axes.grid(alpha=0.3)
    place_labels(axes, labels)
    figure.savefig(path, dpi=100)
    return path
