"""The accuracy-cost front: quality against bytes of a record, and against the time to score a candidate.

Panels: all models by bytes; sweeps and dtypes of one of them by bytes; all models by time, where costs were measured.
Quality is GAUC per slate where slates are whole, else AUC (`Comparison.main_metric`). Bars are the 95% intervals of the
differences to the best full attention: those of the metric itself are mostly about which users were measured, which all
models share.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from builder.experiments.compare.columns import FLOORS, NAMES
from builder.experiments.compare.cost import TRAINING_ONLY
from builder.experiments.compare.plot_style import COLORS, DTYPE_MARKS, half_of, mean_of
from builder.experiments.compare.sweep_text import is_start
from builder.experiments.compare.table import Comparison, Row
from builder.experiments.report.figure import new_figure
from builder.experiments.report.labels import Label, place_labels
from builder.recipe.models import SHARE
from models.contract.state_spec import RecordDtype

SERVED: RecordDtype = "fp16"
"""Dtype of the records whose bytes are drawn."""
TIME = "µs to score one candidate of 1,000 (ONNX Runtime, one thread)"
WIDTH, HEIGHT = 12.0, 7.5
"""Of a panel, in inches."""
DEPTH = 8.0
"""The quality axis begins this many times as far below the best as the median is; what is below is named."""
APART = 0.003
"""Distance of points with the same bytes, as a share of the axis."""
SWEEP_COLORS = ("C0", "C2", "C4", "C5", "C6", "C8")


@dataclass(frozen=True)
class Point:
    """A model on the plot.

    Attributes:
        cost: bytes, or µs.
        quality: of the main metric.
        half: of the interval of the difference to the best full attention.
        text: name.
        color: of its family, or its sweep.
        mark: the winner's is a star.
        sweep: label of the sweep that it is of; empty: none.
    """

    cost: float
    quality: float
    half: float
    text: str
    color: str
    mark: str = "o"
    sweep: str = ""


def plot_front(comparison: Comparison) -> Figure | None:
    """The panels that have something to show; None without any."""
    rows = comparison.models
    by_bytes = _by_bytes(comparison, rows)
    swept, base = _of_sweeps(comparison), swept_row(comparison)
    by_time = [
        _point(comparison, row, row.cost.us_per_candidate) for row in rows if row.cost is not None
    ]
    size = f"bytes of a record at {SERVED}, mean over users"
    panels = [
        (points, title, label)
        for points, title, label in (
            (by_bytes, "models; grey: the front", f"{size} (models of the same size side by side)"),
            (
                swept,
                f"sweeps of {base.label if base else None}",
                f"{size}, but for points named by their dtype",
            ),
            (by_time, "models; grey: the front", TIME),
        )
        if points
    ]
    if not panels:
        return None
    figure = new_figure(WIDTH, HEIGHT * len(panels))
    drawn = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    names = []
    for axes, (points, title, label) in zip(drawn, panels, strict=True):
        names.append(_draw(axes, comparison, points))
        axes.set_xlabel(label)
        axes.set_title(f"{comparison.name}: {title}", fontsize=10)
        if points is not by_time:
            _draw_raw(axes, rows)
        axes.legend(
            loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=5, frameon=False, fontsize=8
        )
    # After all panels have their final place.
    for axes, labels in zip(drawn, names, strict=True):
        place_labels(axes, labels)
    return figure


def _point(comparison: Comparison, row: Row, cost: float) -> Point:
    metric = comparison.main_metric
    winner = comparison.winner
    is_winner = winner is not None and row.label == winner.label
    return Point(
        cost,
        mean_of(row.metric(metric)),
        half_of(row.over(comparison.full, metric)),
        row.label,
        COLORS[row.family],
        "*" if is_winner else "o",
    )


def _by_bytes(comparison: Comparison, rows: Sequence[Row]) -> list[Point]:
    return [
        _point(comparison, row, float(row.sizes.mean[SERVED]))
        for row in rows
        if row.sizes is not None
    ]


def _of_sweeps(comparison: Comparison) -> list[Point]:
    """A row of slots, its sweeps and its dtypes, with the best rows of other families; empty if no sweep is shown."""
    base = swept_row(comparison)
    if base is None or base.sizes is None:
        return []
    points = [*_swept(comparison, base), *_dtypes(comparison, base)]
    rows = [base, *filter(None, (comparison.winner, comparison.full, comparison.two_stage))]
    known = list({row.label: row for row in rows}.values())
    return [*_by_bytes(comparison, known), *points] if points else []


def swept_row(comparison: Comparison) -> Row | None:
    """The winner, if sweeps start from it, else the first row of slots from which one does; else the winner."""
    starts = {sweep.variant for sweep in comparison.sweeps}
    slots = [row for row in comparison.rows if row.family == "lrea" and row.label in starts]
    winner = comparison.winner
    return winner if winner is None or winner.label in starts or not slots else slots[0]


def _swept(comparison: Comparison, base: Row) -> Iterator[Point]:
    sweeps = [sweep for sweep in comparison.sweeps if sweep.variant == base.label]
    shown = [sweep for sweep in sweeps if sweep.key not in (*TRAINING_ONLY, SHARE)]
    for sweep, color in zip(shown, cycle(SWEEP_COLORS)):
        for value, row in sweep.rows:
            for point in [] if is_start(row, base) else _by_bytes(comparison, [row]):
                text = f"{sweep.key} {value}"
                yield replace(point, text=text, color=color, mark="o", sweep=sweep.key)


def _dtypes(comparison: Comparison, base: Row) -> Iterator[Point]:
    """Other dtypes of a row's records. GAUC is not measured by dtype: it is estimated to fall by as much as the AUC."""
    quality = mean_of(base.metric(comparison.main_metric))
    for dtype, (_, lost) in base.stored().items():
        if dtype != SERVED and base.sizes is not None:
            value, half = quality + mean_of(lost), half_of(lost)
            size = float(base.sizes.mean[dtype])
            yield Point(size, value, half, dtype, "C9", DTYPE_MARKS[dtype], "dtype")


def _draw(axes: Axes, comparison: Comparison, points: Sequence[Point]) -> list[Label]:
    """Draw a panel; return the names of its points."""
    is_swept = any(point.sweep for point in points)
    front = [] if is_swept else _front(points)
    low = min(point.quality for point in points)
    low = low if is_swept else _lowest(comparison, [point.quality for point in points])
    _limit(axes, points, low)
    moved = _apart(points)
    names = {point.text for point in front}
    labels = [_draw_point(axes, point, low, is_front=point.text in names) for point in moved]
    _draw_front(axes, front, low)
    _draw_sweeps(axes, moved)
    _draw_floors(axes, comparison, low)
    _plain_numbers(axes)
    axes.set_ylabel(_quality_label(comparison), fontsize=8)
    axes.grid(alpha=0.25)
    if not is_swept:
        for family in dict.fromkeys(row.family for row in comparison.models):
            axes.plot([], [], "o", color=COLORS[family], label=family)
    return sorted(labels, key=lambda one: (not one.is_bold, -one.y, one.x))


def _limit(axes: Axes, points: Sequence[Point], low: float) -> None:
    """Axes with room for names, most of it above and on the right."""
    axes.set_xscale("log")
    least, most = (find(point.cost for point in points) for find in (min, max))
    room = max((most / least) ** 0.08, 1.1)
    axes.set_xlim(least / room, most * room**1.8)
    top = max(point.quality + point.half for point in points)
    bottom = min(max(point.quality - point.half, low) for point in points)
    high = max(top - bottom, 1e-3)
    axes.set_ylim(bottom - 0.05 * high, top + 0.12 * high)


def _draw_point(axes: Axes, point: Point, low: float, *, is_front: bool) -> Label:
    x, y, half, text, mark, size = point.cost, point.quality, point.half, point.text, point.mark, 6
    if mark == "*":
        size = 13
    if y < low:
        text, y, half, mark, size = f"{text} {y:.4f}", low, 0.0, "$\\downarrow$", 9
    axes.errorbar(
        [x], [y], [half], ls="", marker=mark, ms=size, color=point.color, elinewidth=0.7, alpha=0.8
    )
    return Label(x, y, half, text, point.color, is_front or mark == "*")


def _quality_label(comparison: Comparison) -> str:
    full = comparison.full
    bars = f" (bars: 95% interval of the difference to {full.label})" if full else ""
    return f"{NAMES[comparison.main_metric]} on the test period{bars}"


def _draw_sweeps(axes: Axes, points: Sequence[Point]) -> None:
    """A line through each sweep's values and the variant's own, which is the first point."""
    for key in dict.fromkeys(point.sweep for point in points if point.sweep):
        line = sorted(
            [points[0], *(point for point in points if point.sweep == key)],
            key=lambda point: (point.cost, point.quality),
        )
        color = next(point.color for point in line if point.sweep)
        x, y = [point.cost for point in line], [point.quality for point in line]
        axes.plot(x, y, color=color, lw=1, alpha=0.5, label=key)


def _front(points: Sequence[Point]) -> list[Point]:
    """Points that no other beats in both cost and quality, cheapest first."""
    best: list[Point] = []
    for point in sorted(points, key=lambda point: (point.cost, -point.quality)):
        if not best or point.quality > best[-1].quality:
            best.append(point)
    return best


def _draw_front(axes: Axes, front: Sequence[Point], low: float) -> None:
    x, y = [point.cost for point in front], [max(point.quality, low) for point in front]
    if len(front) > 1:
        axes.plot(x, y, color="0.6", lw=5, alpha=0.3, zorder=0, drawstyle="steps-post")


def _lowest(comparison: Comparison, qualities: Sequence[float]) -> float:
    """Lower end of the axis, at which models far below it are drawn. The best baseline is shown if it is near.

    An axis that reached down to the worst model would leave little room between the others.
    """
    best = max(qualities)
    depth = DEPTH * (best - float(np.median(qualities)))
    floors = [metrics.get(comparison.main_metric) for metrics in comparison.floors.values()]
    floor = max((value for value in floors if value is not None), default=best)
    if best - 2 * depth < floor < best - depth:
        depth = 1.05 * (best - floor)
    return max(min(qualities), best - depth)


def _apart(points: Sequence[Point]) -> list[Point]:
    """The points, those of the same cost moved apart: their bars would cover each other."""
    costs = np.array([point.cost for point in points], dtype=float)
    wide = max(float(np.log(costs.max() / costs.min())), 1.0)
    quality = np.array([point.quality for point in points])
    moved = costs.copy()
    for cost in np.unique(costs):
        places = np.flatnonzero(costs == cost)
        order = places[np.argsort(-quality[places], kind="stable")]
        steps = np.arange(len(order)) - (len(order) - 1) / 2
        moved[order] = cost * np.exp(APART * wide * steps)
    return [replace(point, cost=x) for point, x in zip(points, moved.tolist(), strict=True)]


def _draw_floors(axes: Axes, comparison: Comparison, low: float) -> None:
    metric = comparison.main_metric
    for (name, metrics), style in zip(comparison.floors.items(), ("-.", "--"), strict=False):
        value = metrics.get(metric)
        if value is not None and value > low:
            axes.axhline(value, color="0.35", ls=style, lw=1, label=f"{FLOORS[name]}, {value:.4f}")


def _draw_raw(axes: Axes, rows: Sequence[Row]) -> None:
    """Bytes of the raw histories, mean over the same users."""
    raw = max((row.sizes.raw for row in rows if row.sizes is not None), default=0)
    if raw:
        axes.axvline(raw, color="0.5", ls="--", lw=0.8, label=f"raw history, mean: {raw:,} bytes")


def _plain_numbers(axes: Axes) -> None:
    """On a logarithmic axis; with 2 and 5 between powers of ten where there are few of those."""
    low, high = axes.get_xlim()
    if high < 1_000 * low:
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
