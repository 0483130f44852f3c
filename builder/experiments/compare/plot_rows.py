"""Pictures with a panel for each row of a comparison: learning curves, and predicted against observed rates."""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from builder.experiments.compare.columns import FLOORS
from builder.experiments.compare.table import Comparison
from builder.experiments.report.figure import new_figure

COLUMNS = 6
WIDTH, HEIGHT = 2.3, 1.7
"""Of a panel, in inches."""
WINDOW = 0.02
"""Height of the panels of learning curves: the same for all, so that slopes can be compared."""
LOWEST = 1e-6
"""Smallest rate of a reliability plot: its axes are logarithmic, and a bin may have no positive."""


def plot_curves(comparison: Comparison) -> Figure | None:
    """Validation by step, a line for each seed, a dot at the kept weights: GAUC per slate where it was measured."""
    rows = [row for row in comparison.rows if any(_curve(outcome) for outcome in row.outcomes)]
    if not rows:
        return None
    metric = "gauc" if _curve(rows[0].outcomes[0])[-1].get("gauc") is not None else "auc"
    figure, panels = _panels(len(rows))
    for panel, row in zip(panels, rows, strict=True):
        for outcome in row.outcomes:
            points = {line["step"]: line[metric] for line in _curve(outcome)}
            (line,) = panel.plot(list(points), list(points.values()), lw=0.8)
            kept = outcome.get("best_step", -1)
            if kept in points:
                panel.plot([kept], [points[kept]], "o", ms=3, color=line.get_color())
        best = _best(row.outcomes, metric)
        panel.set_ylim(best - WINDOW, best + 0.1 * WINDOW)
        panel.locator_params(nbins=5)
        below = sum(_best([outcome], metric) < best - WINDOW for outcome in row.outcomes)
        note = f" ({below} of {len(row.outcomes)} below)" if below else ""
        panel.set_title(row.label + note, fontsize=7)
    figure.supxlabel("step", fontsize=8)
    figure.supylabel(
        f"validation {metric.upper()}: the last {WINDOW:g} below each row's best", fontsize=8
    )
    return figure


def _curve(outcome: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [line for line in outcome.get("history", ()) if "step" in line]


def _best(outcomes: Sequence[Mapping[str, Any]], metric: str) -> float:
    """Of all validations; 0.5 if all diverged."""
    known = [line[metric] for outcome in outcomes for line in _curve(outcome)]
    return max((value for value in known if isfinite(value)), default=0.5)


def plot_reliability(comparison: Comparison) -> Figure | None:
    """Observed against predicted rate of the first seed, and of the floors; the diagonal is a calibrated model."""
    shown = {
        row.label: row.outcomes[0]["reliability"]
        for row in comparison.rows
        if row.outcomes[0].get("reliability")
    }
    shown |= {
        FLOORS[name].removeprefix("floor: "): metrics["reliability"]
        for name, metrics in comparison.floors.items()
        if metrics.get("reliability")
    }
    if not shown:
        return None
    figure, panels = _panels(len(shown))
    for panel, (label, bins) in zip(panels, shown.items(), strict=True):
        draw_reliability(panel, bins)
        panel.set_title(label, fontsize=7)
    figure.supxlabel("predicted rate", fontsize=8)
    figure.supylabel("observed rate", fontsize=8)
    return figure


def draw_reliability(panel: Axes, bins: Sequence[Mapping[str, float]]) -> None:
    """Observed against predicted rate of the bins, on logarithmic axes; the diagonal is a calibrated model."""
    predicted = [max(row["predicted"], LOWEST) for row in bins]
    observed = [max(row["observed"], LOWEST) for row in bins]
    ends = [min(predicted + observed), max(predicted + observed)]
    panel.plot(ends, ends, color="0.7", lw=0.8)
    panel.plot(predicted, observed, "o-", ms=3, lw=0.8)
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.minorticks_off()


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    columns = min(count, COLUMNS)
    lines = -(-count // columns)
    figure = new_figure(WIDTH * columns + 1.0, HEIGHT * lines + 1.0)
    panels = figure.subplots(lines, columns, squeeze=False).ravel().tolist()
    for panel in panels[count:]:
        panel.set_axis_off()
    for panel in panels[:count]:
        panel.tick_params(labelsize=6)
        panel.grid(alpha=0.3)
    return figure, panels[:count]
