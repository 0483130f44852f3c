"""A comparison by groups of targets, as Markdown: how old the evidence is, how long the history."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from builder.experiments.compare.table import Comparison, Estimate, Row
from builder.experiments.report.markdown import markdown_table

Groups = Mapping[str, Mapping[str, Any]]
NOTES = (
    "Means over seeds, within groups of targets. In brackets: the group's targets and its share of positives. A",
    "group of one label, or of too few targets, has no AUC. A history is the latest L events; `recent` are its",
    "latest N, which every model sees; a model with an L of its own has groups by its own history. `GAUC` compares",
    "a group's positives with all negatives of their slates.",
)


def cut_lines(comparison: Comparison) -> list[str]:
    """A table for each cut, by AUC; and by GAUC per slate where slates are whole."""
    first = comparison.rows[0].outcomes[0]
    lines = ["", "## By where the evidence lies", "", *NOTES]
    for name, groups in first["cuts"].items():
        lines += _tables(
            comparison.rows,
            name[0].upper() + name[1:],
            groups,
            {metric: [row.cut(name, metric) for row in comparison.rows] for metric in _of(groups)},
        )
    groups = first["by_history"]
    return lines + _tables(
        comparison.rows,
        "Number of events in the history",
        groups,
        {metric: [row.by_history(metric) for row in comparison.rows] for metric in _of(groups)},
    )


def _of(groups: Groups) -> list[str]:
    """Metrics of the groups that are there."""
    return ["auc"] + ["slate_auc"] * any(
        group.get("slate_auc") is not None for group in groups.values()
    )


def _tables(
    rows: Sequence[Row],
    title: str,
    groups: Groups,
    values: Mapping[str, Sequence[Mapping[str, Estimate | None]]],
) -> list[str]:
    headings = [
        f"{name} ({group['targets']:,}; {group['share']:.2%})" for name, group in groups.items()
    ]
    lines = []
    for metric, by_row in values.items():
        name = "AUC" if metric == "auc" else "GAUC"
        lines += ["", f"### {title}: {name}", ""]
        lines += markdown_table(["model", *headings], _cells(rows, list(groups), by_row))
    return lines


def _cells(
    rows: Sequence[Row], names: Sequence[str], by_row: Sequence[Mapping[str, Estimate | None]]
) -> Iterable[list[str]]:
    for row, values in zip(rows, by_row, strict=True):
        means = (values.get(name) for name in names)
        yield [row.label, *("" if value is None else f"{value.mean:.4f}" for value in means)]
