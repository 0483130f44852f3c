"""The benchmark as a picture: score time against L, B, r and d on logarithmic axes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter

from builder.experiments.bench.table import AXES, sweep, swept
from builder.experiments.bench.timing import Size, Timing
from builder.experiments.report.figure import new_figure

MARKS = {
    "LREA, position slots": ("C0", "o"),
    "LREA, hash slots": ("C2", "s"),
    "DIN": ("C3", "^"),
    "no long history": ("0.5", "."),
    "LREA, content slots": ("C8", "D"),
    "LREA, hash and content slots": ("C9", "P"),
    "SIM hard": ("C1", "<"),
    "SIM soft": ("C1", ">"),
    "ETA": ("C4", "v"),
    "TWIN": ("C5", "X"),
    "SDIM": ("C6", "*"),
    "linear attention": ("C7", "1"),
    "mean pooling": ("0.3", "+"),
}


def plot(
    timings: Sequence[Timing], main: Size, sweeps: Mapping[str, tuple[int, ...]], path: Path
) -> None:
    """Write a picture with one panel per axis."""
    one_thread = [line for line in timings if line.threads == timings[0].threads]
    figure = new_figure(11.0, 8.0)
    rows, columns = (2, 2) if len(sweeps) > 2 else (1, len(sweeps))
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).flat
    for panel, (axis, values) in zip(panels, sweeps.items(), strict=False):
        _draw(panel, one_thread, main, axis, values)
    figure.axes[0].legend()
    figure.suptitle(
        "Score time of one user's slate, where not varied: "
        f"L = {main.length:,}, B = {main.candidates:,}, r = {main.rank}, d = {main.dim}"
    )
    figure.savefig(path, dpi=120)


def _draw(
    panel: Axes, timings: Sequence[Timing], main: Size, axis: str, values: Sequence[int]
) -> None:
    by_value = sweep(timings, main, axis, values)
    for model in swept(by_value):
        lines = [by_value[value][model] for value in values]
        median = [line.times.median_ms for line in lines]
        below = [line.times.median_ms - line.times.p10_ms for line in lines]
        above = [line.times.p90_ms - line.times.median_ms for line in lines]
        color, marker = MARKS[model]
        panel.errorbar(
            values, median, yerr=[below, above], label=model, color=color, marker=marker, capsize=2
        )
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xticks(values, [f"{value:,}" for value in values])
    for scale in (panel.xaxis, panel.yaxis):
        scale.set_minor_formatter(NullFormatter())
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.set_xlabel(AXES[axis])
    panel.set_ylabel("milliseconds")
    panel.grid(alpha=0.3, which="both")
