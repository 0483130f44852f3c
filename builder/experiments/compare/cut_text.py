"""A comparison by groups of targets, as Markdown: how old the evidence is, how long the history."""

from collections.abc import Iterable, Mapping
from typing import Any

from builder.experiments.compare.columns import FLOORS
from builder.experiments.compare.table import HISTORY, Comparison, Estimate
from builder.experiments.report.markdown import markdown_table

AUC = "auc"
NOTES = (
    "Means over seeds, within groups of targets. In brackets: the group's targets and its share of positives. A",
    "group of one label, or of too few targets, has no AUC. A history is the latest L events; `recent` are its",
    "latest N, which every model sees; a model with an L of its own has groups by its own history. `GAUC` compares",
    "a group's positives with all negatives of their slates.",
)


def cut_lines(comparison: Comparison) -> list[str]:
    """A table for each cut, by AUC; and by GAUC per slate where slates are whole."""
    lines = ["", "## By where the evidence lies", "", *NOTES]
    for name in cut_names(comparison):
        for metric in group_metrics(comparison, name):
            lines += _table(comparison, name, metric)
    return lines


def cut_names(comparison: Comparison) -> list[str]:
    """Names of the cuts, that by the history's length last."""
    return [*comparison.rows[0].outcomes[0]["cuts"], HISTORY] if comparison.rows else []


def group_metrics(comparison: Comparison, name: str) -> list[str]:
    """Metrics that a cut's groups have: AUC, then GAUC per slate where slates are whole."""
    groups = comparison.rows[0].group_sizes(name).values()
    return [AUC] + ["slate_auc"] * any(group.get("slate_auc") is not None for group in groups)


def floor_groups(metrics: Mapping[str, Any], name: str, metric: str) -> dict[str, Estimate | None]:
    """Group of a cut -> a metric of a baseline; empty if it was not measured by groups."""
    groups = (
        metrics.get("by_history", {}) if name == HISTORY else metrics.get("cuts", {}).get(name, {})
    )
    values = {group: own.get(metric) for group, own in groups.items()}
    return {
        group: None if value is None else Estimate(value, None) for group, value in values.items()
    }


def _table(comparison: Comparison, name: str, metric: str) -> list[str]:
    groups = comparison.rows[0].group_sizes(name)
    headings = [
        f"{group} ({own['targets']:,}; {own['share']:.2%})" for group, own in groups.items()
    ]
    title = f"### {name[0].upper()}{name[1:]}: {'AUC' if metric == AUC else 'GAUC'}"
    cells = ([label, *_means(values, groups)] for label, values in _rows(comparison, name, metric))
    return ["", title, "", *markdown_table(["model", *headings], cells)]


def _rows(
    comparison: Comparison, name: str, metric: str
) -> Iterable[tuple[str, Mapping[str, Estimate | None]]]:
    for row in comparison.rows:
        yield row.label, row.group(name, metric)
    for floor, metrics in comparison.floors.items():
        values = floor_groups(metrics, name, metric)
        if values:
            yield FLOORS[floor], values


def _means(values: Mapping[str, Estimate | None], groups: Iterable[str]) -> Iterable[str]:
    for group in groups:
        value = values.get(group)
        yield "" if value is None else f"{value.mean:.4f}"
