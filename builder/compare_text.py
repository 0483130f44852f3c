"""A comparison as Markdown: the table, what it was cut by, the sweeps, and how it was made."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from builder.compare_table import METRICS, Comparison, Estimate, Row

FLOORS = {
    "counts": "floor: logistic regression on counts",
    "trees": "floor: boosted trees on counts and ages",
}
Column = Callable[[Row], str]


def columns(comparison: Comparison) -> dict[str, Column]:
    """Heading -> what a row shows under it."""
    full, two_stage = comparison.full, comparison.two_stage
    found: dict[str, Column] = {
        "model": lambda row: row.label,
        "family": lambda row: row.family,
        "AUC": lambda row: _text(row.metric("auc")),
    }
    for name, other in (("", full), ("best two-stage: ", two_stage)):
        if other is not None:
            found[f"AUC over {name}{other.label}"] = lambda row, base=other: _text(row.over(base))  # type: ignore[misc]
    return found | {
        "GAUC": lambda row: _text(row.metric("gauc")),
        "log loss": lambda row: _text(row.metric("log_loss")),
        "PCOC": lambda row: _text(row.metric("pcoc")),
        "AUC, served less trained": lambda row: _text(row.gap("auc")),
        "log loss, served less trained": lambda row: _text(row.gap("log_loss")),
        "learning rate": lambda row: f"{row.learning_rate:g}",
        "seeds": lambda row: str(len(row.outcomes)),
        "train s": lambda row: f"{row.seconds():.0f}",
    }


def table_cells(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Headings and rows: variants, floors, and the oracle where there is one."""
    shown = columns(comparison)
    rows = [[show(row) for show in shown.values()] for row in comparison.rows]
    headings = list(shown)
    names = dict(zip(METRICS, ("AUC", "GAUC", "log loss", "PCOC"), strict=True))
    for name, metrics in comparison.floors.items():
        values = {names[metric]: f"{metrics[metric]:.4f}" for metric in METRICS}
        rows.append([FLOORS[name], *(values.get(heading, "") for heading in headings[1:])])
    if comparison.oracle_auc is not None:
        text = f"{comparison.oracle_auc:.4f}"
        blank = ["" for _ in headings]
        rows.append(["oracle: the true probabilities", "", text, *blank[3:]])
    return headings, rows


def to_markdown(comparison: Comparison, header: Mapping[str, str]) -> str:
    """Everything.

    Args:
        comparison: what was found.
        header: how it was made: "command", the machine, and so on.
    """
    lines = [f"# {comparison.name}", "", f"Made by `{header['command']}`.", ""]
    lines += [f"- {name}: {value}" for name, value in header.items() if name != "command"]
    lines += ["", *_table(*table_cells(comparison))]
    return "\n".join(lines) + "\n"


def _text(value: Estimate | None) -> str:
    return "" if value is None else str(value)


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [
        "| " + " | ".join(headings) + " |",
        "|" + " --- |" * len(headings),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]
