"""A comparison as pictures: quality against time and bytes, by the age of the evidence, sweeps.

Quality is GAUC per slate where slates are whole, else AUC (`Comparison.main_metric`). Learning curves and reliability
are in `plot_rows.py`.
"""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from builder.evaluate.groups import AGES
from builder.experiments.compare.plot_rows import plot_curves, plot_reliability
from builder.experiments.compare.table import EVENT_BYTES, Comparison, Estimate, Row, SweepRows
from builder.experiments.compare.text import FLOORS, NAMES
from builder.experiments.report.figure import new_figure
from builder.experiments.report.labels import Label, place_labels
from models.contract.state_spec import RecordDtype

COLORS = {
    "lrea": "C0",
    "two-stage": "C1",
    "full": "C3",
    "stacked": "C5",
    "pooled": "C2",
    "none": "0.4",
    "control": "C4",
}
DTYPE_MARKS: dict[RecordDtype, str] = {"fp32": "o", "fp16": "s", "int8": "v"}
MARKS = "osD^vP*Xh<>p"
"""Tell apart the models of a family."""


def plot_comparison(comparison: Comparison, out: Path) -> list[Path]:
    """Write the pictures that have something to show into `out`; return their paths."""
    written = []
    for name, figure in (
        ("auc-cost", _auc_cost(comparison)),
        ("bytes", _bytes(comparison)),
        ("cuts", _cuts(comparison)),
        ("sweep", _sweeps(comparison)),
        ("curves", plot_curves(comparison)),
        ("reliability", plot_reliability(comparison)),
    ):
        if figure is not None:
            written.append(out / f"{name}.png")
            figure.savefig(written[-1], dpi=120)
    return written


def _auc_cost(comparison: Comparison) -> Figure | None:
    rows = [row for row in comparison.rows if row.cost is not None]
    if not rows:
        return None
    figure = new_figure(10.0, 6.5)
    axes = figure.subplots()
    labels = []
    for family in dict.fromkeys(row.family for row in rows):
        for row in (row for row in rows if row.family == family):
            labels.append(_point(axes, row, comparison.main_metric))
        axes.plot([], [], "o", color=COLORS[family], label=family)
    _front(axes, [(label.x, label.y) for label in labels])
    _floor_lines(axes, comparison)
    axes.set_xscale("log")
    axes.margins(x=0.12, y=0.1)
    _plain_numbers(axes)
    axes.set_xlabel("µs to score one candidate of 1,000 (one thread)")
    axes.set_ylabel(f"{NAMES[comparison.main_metric]} on the test period (95% interval)")
    axes.grid(alpha=0.3, which="both")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=3, frameon=False)
    axes.set_title(comparison.name)
    place_labels(axes, labels)
    return figure


def _point(axes: Axes, row: Row, metric: str) -> Label:
    auc, us = row.metric(metric), row.cost.us_per_candidate if row.cost else 0.0
    mean, half = (auc.mean, auc.half or 0.0) if auc else (0.0, 0.0)
    axes.errorbar([us], [mean], yerr=[half], color=COLORS[row.family], marker="o", capsize=3)
    return Label(us, mean, half, row.label, COLORS[row.family])


def _bytes(comparison: Comparison) -> Figure | None:
    """Quality against bytes of a record, a line through each model's dtypes; dashed: the raw history.

    A dtype's quality is that of fp32 records less what its AUC loses.
    """
    points = [(row, sizes) for row in comparison.rows if (sizes := _sizes(row))]
    if not points:
        return None
    figure = new_figure(10.0, 6.5)
    axes = figure.subplots()
    labels = []
    for row, sizes in points:
        quality = _mean(row.metric(comparison.main_metric))
        color = COLORS[row.family]
        values = [quality + lost for _, lost in sizes.values()]
        axes.plot([size for size, _ in sizes.values()], values, color=color, alpha=0.6)
        for (dtype, (size, _)), value in zip(sizes.items(), values, strict=True):
            axes.plot([size], [value], DTYPE_MARKS[dtype], color=color)
        labels.append(Label(float(sizes["fp32"][0]), values[0], 0.0, row.label, color))
    for label, mark in DTYPE_MARKS.items():
        axes.plot([], [], mark, color="0.3", label=label)
    _front(axes, [(label.x, label.y) for label in labels])
    _raw_lines(axes, comparison)
    axes.set_xscale("log")
    axes.margins(x=0.12, y=0.1)
    axes.set_xlabel("bytes of a user's record")
    axes.set_ylabel(f"{NAMES[comparison.main_metric]} on the test period")
    axes.grid(alpha=0.3, which="both")
    axes.legend(frameon=False)
    place_labels(axes, labels)
    return figure


def _sizes(row: Row) -> dict[RecordDtype, tuple[int, float]]:
    """Dtype -> bytes of a record, and AUC less that of fp32 records; fp32 alone where only the cost was measured."""
    stored = {dtype: (size, _mean(lost)) for dtype, (size, lost) in row.stored().items()}
    return stored or ({"fp32": (row.cost.state_bytes, 0.0)} if row.cost else {})


def _front(axes: Axes, points: Sequence[tuple[float, float]]) -> None:
    """A line through the points that no other point beats in both cost and quality."""
    best: list[tuple[float, float]] = []
    for cost, quality in sorted(points, key=lambda point: (point[0], -point[1])):
        if not best or quality > best[-1][1]:
            best.append((cost, quality))
    if len(best) > 1:
        axes.plot(*zip(*best, strict=True), color="0.6", lw=6, alpha=0.3, zorder=0, label="front")


def _raw_lines(axes: Axes, comparison: Comparison) -> None:
    length, median = comparison.history_length, comparison.median_events
    for events, style in ((length, "--"), (median, ":")):
        if events:
            axes.axvline(
                EVENT_BYTES * events, color="0.5", ls=style, lw=0.8, label=f"raw: {events:,} events"
            )


def _floor_lines(axes: Axes, comparison: Comparison) -> None:
    metric = comparison.main_metric
    lines = {
        FLOORS[name]: metrics[metric]
        for name, metrics in comparison.floors.items()
        if metrics.get(metric) is not None
    }
    if comparison.oracle_auc is not None and metric == "auc":
        lines["oracle: the true probabilities"] = comparison.oracle_auc
    for (label, auc), style in zip(lines.items(), ("--", "-.", ":"), strict=False):
        axes.axhline(auc, color="0.35", linestyle=style, linewidth=1, label=f"{label}, {auc:.4f}")


def _plain_numbers(axes: Axes) -> None:
    """On a logarithmic axis; between powers of ten only where there are few of those."""
    low, high = axes.get_xlim()
    plain = FuncFormatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_major_formatter(plain)
    axes.xaxis.set_minor_formatter(plain if high < 10 * low else NullFormatter())


def _cuts(comparison: Comparison) -> Figure | None:
    """AUC over the reference's (else AUC itself) by age of the evidence, a panel for each key."""
    names = [
        name
        for name in (comparison.rows[0].outcomes[0]["cuts"] if comparison.rows else ())
        if name.startswith("age") and comparison.rows[0].cut(name)
    ]
    if not names:
        return None
    figure = new_figure(6.0 * len(names) + 3.0, 5.5)
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for panel, name in zip(panels, names, strict=True):
        _draw_cut(panel, comparison, name)
    full = comparison.full
    panels[0].set_ylabel(
        f"AUC over {full.label}, within the group" if full else "AUC within the group"
    )
    handles, texts = panels[0].get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside right center", fontsize=8, frameon=False)
    return figure


def _draw_cut(panel: Axes, comparison: Comparison, name: str) -> None:
    base = comparison.full.cut(name) if comparison.full else {}
    aucs = comparison.rows[0].cut(name)
    groups = [group for group in AGES if aucs.get(group) is not None]
    for row, mark in zip(comparison.rows, _marks(comparison.rows), strict=True):
        aucs = row.cut(name)
        values = [
            _mean(aucs[group]) - _mean(base.get(group)) if aucs.get(group) else float("nan")
            for group in groups
        ]
        style = "--" if row.family in ("control", "none") else "-"
        panel.plot(
            groups,
            values,
            color=COLORS[row.family],
            marker=mark,
            linestyle=style,
            label=row.label,
            alpha=0.85,
        )
    sizes = comparison.rows[0].outcomes[0]["cuts"][name]
    panel.set_xticks(
        range(len(groups)), [f"{g}\n{sizes[g]['targets']:,}" for g in groups], fontsize=8
    )
    panel.set_title(f"{name}\n(below: targets)", fontsize=10)
    panel.grid(alpha=0.3)


def _marks(rows: Sequence[Row]) -> list[str]:
    """One for each row, its own within its family."""
    families = [row.family for row in rows]
    places = [families[:place].count(family) for place, family in enumerate(families)]
    return [MARKS[place % len(MARKS)] for place in places]


def _mean(value: Estimate | None) -> float:
    return value.mean if value else 0.0


def _sweeps(comparison: Comparison) -> Figure | None:
    """Quality against the values of a key, a panel for each key."""
    keys = list(dict.fromkeys(sweep.key for sweep in comparison.sweeps))
    if not keys:
        return None
    figure = new_figure(5.5 * len(keys), 4.5)
    for panel, key in zip(figure.subplots(1, len(keys), squeeze=False)[0], keys, strict=True):
        own = [sweep for sweep in comparison.sweeps if sweep.key == key]
        _draw_sweeps(panel, own, comparison.main_metric)
        if comparison.full is not None:
            auc = _mean(comparison.full.metric(comparison.main_metric))
            panel.axhline(auc, color=COLORS["full"], linestyle="--", label=comparison.full.label)
        panel.set_xlabel(key)
        panel.set_ylabel(f"{NAMES[comparison.main_metric]} on the test period")
        panel.grid(alpha=0.3)
        panel.legend(fontsize=8)
    return figure


def _draw_sweeps(panel: Axes, sweeps: Sequence[SweepRows], metric: str) -> None:
    """Values on a logarithmic axis where they are positive numbers, else side by side in the order they have."""
    values = list(dict.fromkeys(str(value) for sweep in sweeps for value, _ in sweep.rows))
    is_number = all(
        isinstance(value, int | float) and not isinstance(value, bool) and value > 0
        for sweep in sweeps
        for value, _ in sweep.rows
    )
    for sweep in sweeps:
        x = [value if is_number else values.index(str(value)) for value, _ in sweep.rows]
        aucs = [row.metric(metric) for _, row in sweep.rows]
        half = [(auc.half or 0.0) if auc else 0.0 for auc in aucs]
        panel.errorbar(
            x, [_mean(auc) for auc in aucs], yerr=half, marker="o", capsize=3, label=sweep.label
        )
    if is_number:
        panel.set_xscale("log")
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.set_xticks(sorted(float(value) for value in values), None)
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    else:
        panel.set_xticks(range(len(values)), values)
