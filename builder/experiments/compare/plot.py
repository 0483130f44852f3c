"""A comparison as pictures: accuracy-cost front, groups of targets, sweeps, learning curves, reliability."""

from pathlib import Path

from builder.experiments.compare.plot_cuts import plot_cuts
from builder.experiments.compare.plot_front import plot_front
from builder.experiments.compare.plot_rows import plot_curves, plot_reliability
from builder.experiments.compare.plot_sweeps import plot_sweeps
from builder.experiments.compare.table import Comparison


def plot_comparison(comparison: Comparison, out: Path) -> list[Path]:
    """Write the pictures that have something to show into `out`; return their paths."""
    written = []
    for name, figure in (
        ("front", plot_front(comparison)),
        ("cuts", plot_cuts(comparison)),
        ("sweep", plot_sweeps(comparison)),
        ("curves", plot_curves(comparison)),
        ("reliability", plot_reliability(comparison)),
    ):
        if figure is not None:
            written.append(out / f"{name}.png")
            figure.savefig(written[-1], dpi=120)
    return written
