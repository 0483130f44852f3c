"""The benchmark as a picture: score time of a slate, and bytes of the record, against the history's length."""

from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter

from builder.evaluate.record_sizes import EVENT_BYTES
from builder.experiments.bench.table import Timing
from builder.experiments.report.figure import new_figure

MARKS = "os^v<>DX*"
SLATE = 1_000
"""The slate size that is drawn: of the timed ones, the nearest."""


def plot(timings: Sequence[Timing], path: Path) -> None:
    """Write the picture."""
    slates = {line.candidates for line in timings}
    shown = min(slates, key=lambda slate: abs(slate - SLATE))
    own = [line for line in timings if line.candidates == shown]
    lengths = sorted({line.length for line in own})
    figure = new_figure(12.0, 5.5)
    time, size = figure.subplots(1, 2)
    _draw(time, own, lambda line: line.times.median_ms)
    time.set_ylabel(f"score time of {shown:,} candidates, ms")
    _draw(size, own, lambda line: line.record_bytes)
    raw = [EVENT_BYTES * length for length in lengths]
    size.plot(lengths, raw, "k--", label="raw history")
    size.set_ylabel("record in the cache, fp16, bytes")
    for panel in (time, size):
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.set_xticks(lengths, [f"{length:,}" for length in lengths])
        for scale in (panel.xaxis, panel.yaxis):
            scale.set_minor_formatter(NullFormatter())
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.4g}"))
        panel.set_xlabel("history length L")
        panel.grid(alpha=0.3, which="both")
    size.legend(fontsize="small")
    figure.savefig(path, dpi=120)


def _draw(panel: Axes, timings: Sequence[Timing], value: Callable[[Timing], float]) -> None:
    for number, model in enumerate(dict.fromkeys(line.model for line in timings)):
        own = sorted((line.length, value(line)) for line in timings if line.model == model)
        lengths, values = zip(*own, strict=True)
        panel.plot(lengths, values, marker=MARKS[number % len(MARKS)], label=model)
