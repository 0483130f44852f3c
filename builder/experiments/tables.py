"""Tables of comparisons for the terminal; `table.md` beside the trainings has every column."""

from rich.table import Table

from builder.experiments.compare.table import Comparison
from builder.experiments.compare.text import table_cells
from builder.experiments.llactr.findings import Findings
from builder.experiments.scaling.fit import Axis

MAIN = (
    "model",
    "GAUC per slate",
    "AUC",
    "log loss",
    "learning rate",
    "train s",
    "bytes, fp16",
    "µs/candidate",
)
"""Columns of a comparison that a terminal shows, beside the differences."""


def comparison_table(comparison: Comparison) -> Table:
    """Variants side by side, in the columns that fit a terminal."""
    table = Table(title=comparison.name)
    headings, rows = table_cells(comparison)
    columns = [place for place, heading in enumerate(headings) if _is_main(heading)]
    for place in columns:
        table.add_column(headings[place], justify="right" if place else "left")
    for row in rows:
        table.add_row(*(row[place] for place in columns))
    return table


def scaling_table(axis: Axis) -> Table:
    """Power laws fitted along one axis."""
    table = Table(title=f"by {axis.name}")
    for heading in ("loss", "law", "R²", "held out: predicted", "measured"):
        table.add_column(heading)
    for loss, fit in axis.fits.items():
        law = fit.law
        table.add_row(
            loss,
            f"{law.floor:.4f} + {law.scale:.3g}·x^(−{law.exponent:.3f})",
            f"{law.r2:.3f}",
            "" if fit.predicted is None else f"{fit.predicted:.4f}",
            str(fit.measured),
        )
    return table


def llactr_table(findings: Findings) -> Table:
    """Relative improvement (RelaImpr) of each arm, by backbone."""
    table = Table(title=f"{findings.comparison.name}: RelaImpr over the plain backbone, %")
    for heading in ("arm", *findings.backbones, "mean"):
        table.add_column(heading)
    for arm in findings.arms:
        values = [findings.improvement(backbone, arm.name) for backbone in findings.backbones]
        cells = ["" if value is None else f"{value.mean:+.2f}" for value in values]
        mean = findings.mean_improvement(arm.name)
        half = "" if mean is None or mean.half is None else f" ± {mean.half:.2f}"
        table.add_row(arm.name, *cells, "" if mean is None else f"{mean.mean:+.2f}{half}")
    return table


def _is_main(heading: str) -> bool:
    return heading in MAIN or heading.startswith(("AUC less ", "GAUC per slate less "))
