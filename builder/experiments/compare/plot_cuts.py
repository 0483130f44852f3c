"""Quality by how old the evidence is and by how long the history is, as a picture, of the models that matter.

Those are the winner, the best full attention, the best two-stage model, the best and the worst without a long history,
and the baselines; `cut_text.py` has all rows.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from builder.evaluate.metrics.groups import AGES
from builder.experiments.compare.columns import FLOORS
from builder.experiments.compare.cut_text import AUC, cut_names, floor_groups, group_metrics
from builder.experiments.compare.plot_style import COLORS, half_of, mean_of
from builder.experiments.compare.table import HISTORY, Comparison, Estimate, Row
from builder.experiments.report.figure import new_figure

WIDTH, HEIGHT = 5.6, 3.6
"""Of a panel, in inches."""
NEAR = 0.02
"""Models with a larger difference to the reference in a group are drawn in the upper panels alone."""
ROOM = 0.001
STYLES = ("-", "--", "-.")
FLOOR_COLORS = {"counts": "0.7", "trees": "C8"}
Values = Mapping[str, Estimate | None]


@dataclass(frozen=True)
class _Line:
    """A model in one cut: group -> metric, and less that of the best full attention."""

    label: str
    color: str
    style: str
    values: Values
    less: Values


def plot_cuts(comparison: Comparison) -> Figure | None:
    """Above: the metric within each group; below: less the best full attention. None without groups."""
    names = [name for name in cut_names(comparison) if _is_shown(comparison, name)]
    if not names:
        return None
    rows = 2 if comparison.full else 1
    figure = new_figure(WIDTH * len(names), rows * HEIGHT + 0.8)
    panels = figure.subplots(rows, len(names), squeeze=False)
    for column, name in enumerate(names):
        lines = list(_lines(comparison, name))
        groups = _groups(name, lines)
        for panel in panels[:, column]:
            is_upper = panel is panels[0, column]
            for line in lines:
                if is_upper or _is_near(line):
                    _draw(panel, line, groups, line.values if is_upper else line.less)
            panel.set_xticks(range(len(groups)), _ticks(comparison, name, groups), fontsize=7)
            panel.set_xlim(-0.4, len(groups) - 0.6)
            panel.tick_params(axis="y", labelsize=8)
            panel.grid(alpha=0.3)
        panels[0, column].set_title(f"{name}\n(below: positives)", fontsize=9)
        if comparison.full is not None:
            _limit(panels[1, column], [line for line in lines if _is_near(line)])
    metric = "AUC" if _metric(comparison, names[0]) == AUC else "GAUC"
    panels[0, 0].set_ylabel(f"{metric} within the group", fontsize=9)
    if comparison.full is not None:
        panels[1, 0].set_ylabel(
            f"less {comparison.full.label}\n(bars: 95%, over seeds)", fontsize=9
        )
    handles, texts = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    return figure


def _is_shown(comparison: Comparison, name: str) -> bool:
    if name != HISTORY and not name.startswith("age"):
        return False
    return any(value is not None for value in key_rows(comparison)[0].group(name).values())


def key_rows(comparison: Comparison) -> list[Row]:
    """The models that matter, best first by their kind."""
    none = [row for row in comparison.rows if row.family == "none"]
    chosen = [
        comparison.winner,
        comparison.full,
        comparison.two_stage,
        comparison.best("none"),
        min(none, key=Row.validation, default=None),
    ]
    found: list[Row] = []
    for row in chosen:
        if row is not None and row.label not in [one.label for one in found]:
            found.append(row)
    return found or list(comparison.models[:1])


def _lines(comparison: Comparison, name: str) -> Iterator[_Line]:
    metric, full = _metric(comparison, name), comparison.full
    seen: list[str] = []
    for row in key_rows(comparison):
        style = STYLES[seen.count(row.family) % len(STYLES)]
        seen.append(row.family)
        less = row.group_over(full, name, metric) if full else {}
        yield _Line(row.label, COLORS[row.family], style, row.group(name, metric), less)
    base = full.group(name, metric) if full else {}
    for floor, metrics in comparison.floors.items():
        values = floor_groups(metrics, name, metric)
        if values:
            less = {
                group: Estimate(value.mean - own.mean, None) if value and own else None
                for group, value in values.items()
                for own in [base.get(group)]
            }
            yield _Line(FLOORS[floor], FLOOR_COLORS[floor], ":", values, less)


def _metric(comparison: Comparison, name: str) -> str:
    return group_metrics(comparison, name)[-1]


def _groups(name: str, lines: list[_Line]) -> list[str]:
    known = [group for group, value in lines[0].values.items() if value is not None]
    return known if name == HISTORY else [group for group in AGES if group in known]


def _is_near(line: _Line) -> bool:
    gaps = [abs(value.mean) for value in line.less.values() if value is not None]
    return bool(gaps) and max(gaps) < NEAR


def _limit(panel: Axes, lines: list[_Line]) -> None:
    """To twice the largest difference: the bars of small groups are longer."""
    means = [value.mean for line in lines for value in line.less.values() if value is not None]
    if means:
        panel.set_ylim(2 * min(*means, -ROOM), 2 * max(*means, ROOM))


def _draw(panel: Axes, line: _Line, groups: list[str], values: Values) -> None:
    known = [group for group in groups if values.get(group) is not None]
    panel.errorbar(
        [groups.index(group) for group in known],
        [mean_of(values[group]) for group in known],
        [half_of(values[group]) for group in known],
        color=line.color,
        ls=line.style,
        marker="o",
        ms=3.5,
        lw=1.2,
        capsize=2,
        elinewidth=0.7,
        label=line.label,
        alpha=0.85,
    )


def _ticks(comparison: Comparison, name: str, groups: list[str]) -> list[str]:
    sizes = comparison.rows[0].group_sizes(name)
    return [f"{group}\n{sizes[group]['share'] * sizes[group]['targets']:,.0f}" for group in groups]
