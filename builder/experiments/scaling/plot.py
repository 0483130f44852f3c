"""Scaling laws as a picture: a row for each loss, a column for each axis."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from builder.experiments.report.figure import new_figure
from builder.experiments.scaling.fit import LOSSES, Axis


def plot_scaling(axes: Sequence[Axis], name: str, out: Path) -> list[Path]:
    """Write `scaling.png`; return its path, or nothing if there is no axis."""
    if not axes:
        return []
    figure = new_figure(6.5 * len(axes), 8.5)
    panels = figure.subplots(len(LOSSES), len(axes), squeeze=False)
    for column, axis in enumerate(axes):
        for row, loss in enumerate(LOSSES):
            _draw(panels[row][column], axis, loss)
    figure.suptitle(f"{name}: on the test period, 95% interval over seeds")
    path = out / "scaling.png"
    figure.savefig(path, dpi=120)
    return [path]


def _draw(panel: Axes, axis: Axis, loss: str) -> None:
    fit, sizes = axis.fits[loss], np.array([point.size for point in axis.points])
    for seed in axis.points[0].losses[loss]:
        values = [point.losses[loss].get(seed, np.nan) for point in axis.points]
        panel.plot(sizes, values, ".", color="0.6", markersize=4)
    means = [point.mean(loss) for point in axis.points]
    panel.errorbar(
        sizes,
        [value.mean for value in means],
        yerr=[value.half or 0.0 for value in means],
        fmt="o",
        color="C0",
        capsize=3,
    )
    x = np.geomspace(sizes.min(), sizes.max(), 200)
    law = fit.law
    text = f"{law.floor:.3f} + {law.scale:.2g}·x^(−{law.exponent:.2f}), R² {law.r2:.3f}"
    panel.plot(x, law(x), color="C3", label=text)
    if fit.without_last is not None:
        label = f"without the largest: {fit.predicted:.4f} there"
        panel.plot(x, fit.without_last(x), color="C1", linestyle="--", label=label)
    panel.set_xscale("log")
    panel.set_xlabel(axis.name)
    panel.set_ylabel(loss)
    panel.grid(alpha=0.3, which="both")
    panel.legend(fontsize=8)
