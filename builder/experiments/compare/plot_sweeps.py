"""Sweeps as a picture: quality against the values of a key, a panel for each key."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from builder.experiments.compare.columns import NAMES
from builder.experiments.compare.plot_style import COLORS, half_of, mean_of
from builder.experiments.compare.sweep_text import is_start, start_of
from builder.experiments.compare.table import Comparison, SweepRows
from builder.experiments.report.figure import new_figure

COLUMNS = 3
WIDTH, HEIGHT = 4.6, 3.8
"""Of a panel, in inches."""


def plot_sweeps(comparison: Comparison) -> Figure | None:
    """A panel for each key; None without sweeps. Bars: the difference to the variant's own value."""
    keys = list(dict.fromkeys(sweep.key for sweep in comparison.sweeps))
    if not keys:
        return None
    columns = min(len(keys), COLUMNS)
    lines = -(-len(keys) // columns)
    figure = new_figure(WIDTH * columns, HEIGHT * lines + 0.3)
    panels = figure.subplots(lines, columns, squeeze=False).ravel().tolist()
    for panel in panels[len(keys) :]:
        panel.set_axis_off()
    for panel, key in zip(panels, keys, strict=False):
        own = [sweep for sweep in comparison.sweeps if sweep.key == key]
        _draw(panel, comparison, own)
        if comparison.full is not None:
            value = mean_of(comparison.full.metric(comparison.main_metric))
            panel.axhline(value, color=COLORS["full"], ls="--", lw=1, label=comparison.full.label)
        panel.set_xlabel(key)
        panel.grid(alpha=0.3)
        panel.legend(fontsize=7)
    bars = "bars: 95% interval of the difference to the variant's own value, ringed"
    figure.supylabel(f"{NAMES[comparison.main_metric]} on the test period", fontsize=9)
    figure.suptitle(f"{comparison.name}: sweeps; {bars}", fontsize=9)
    return figure


def _draw(panel: Axes, comparison: Comparison, sweeps: Sequence[SweepRows]) -> None:
    """Values on a logarithmic axis where they are positive numbers, else side by side in the order they have."""
    values = list(dict.fromkeys(str(value) for sweep in sweeps for value, _ in sweep.rows))
    is_number = all(
        isinstance(value, int | float) and not isinstance(value, bool) and value > 0
        for sweep in sweeps
        for value, _ in sweep.rows
    )
    metric = comparison.main_metric
    for number, sweep in enumerate(sweeps):
        base = start_of(comparison, sweep)
        x = [value if is_number else values.index(str(value)) for value, _ in sweep.rows]
        means = [mean_of(row.metric(metric)) for _, row in sweep.rows]
        is_own = [is_start(row, base) for _, row in sweep.rows]
        half = [
            0.0 if own else half_of(row.over(base, metric) if base else row.metric(metric))
            for own, (_, row) in zip(is_own, sweep.rows, strict=True)
        ]
        color = f"C{number}"
        panel.errorbar(x, means, half, marker="o", ms=4, capsize=3, color=color, label=sweep.label)
        for place, own in enumerate(is_own):
            if own:
                panel.plot([x[place]], [means[place]], "o", ms=10, mfc="none", color=color)
    if is_number:
        panel.set_xscale("log")
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.set_xticks(sorted(float(value) for value in values), None)
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    else:
        panel.set_xticks(range(len(values)), values)
