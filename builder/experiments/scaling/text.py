"""Scaling laws as Markdown and JSON, beside their picture."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from builder.experiments.compare.table import Comparison
from builder.experiments.report.markdown import markdown_table, write_report
from builder.experiments.scaling.fit import LOSSES, Axis
from builder.experiments.scaling.plot import plot_scaling

NOTES = (
    "Each loss y, on the test period, is fitted as E + a·x^(−b) with E and a not below 0, by least squares on the",
    "means over seeds; R² is of these points. `b of single seeds`: mean ± half of the 95% interval of fits to each",
    "seed alone. `held out`: the largest point, as the fit to all others predicts it. A b at an end of its range",
    "(0.01, 3) says that the points do not tell.",
)


def write_scaling(
    axes: Sequence[Axis], comparison: Comparison, command: str, out: Path
) -> list[Path]:
    """Write table, numbers and plot; return their paths.

    Args:
        axes: points and fits.
        comparison: the trainings behind them.
        command: the command line that made it.
        out: folder, made if absent.
    """
    plain = {
        "command": command,
        "budget": comparison.budget,
        "axes": [asdict(axis) for axis in axes],
    }
    written = write_report(out, "scaling", _to_markdown(axes, comparison, command), plain)
    return [*written, *plot_scaling(axes, comparison.name, out)]


def _to_markdown(axes: Sequence[Axis], comparison: Comparison, command: str) -> str:
    lines = [f"# {comparison.name}: scaling", "", f"Made by `{command}`.", "", *NOTES, ""]
    lines += [f"{comparison.num_targets:,} test targets. {comparison.budget}"]
    for axis in axes:
        lines += ["", f"## By {axis.name}", "", *_fits(axis), "", *_points(axis)]
    return "\n".join(lines) + "\n"


def _fits(axis: Axis) -> list[str]:
    headings = ["loss", "E", "a", "b", "R²", "b of single seeds", "held out: predicted", "measured"]
    rows = []
    for loss, fit in axis.fits.items():
        law = fit.law
        numbers = f"{law.floor:.4f}", f"{law.scale:.4g}", f"{law.exponent:.3f}", f"{law.r2:.3f}"
        predicted = "" if fit.predicted is None else f"{fit.predicted:.4f}"
        rows.append([loss, *numbers, str(fit.exponents), predicted, str(fit.measured)])
    return markdown_table(headings, rows)


def _points(axis: Axis) -> list[str]:
    headings = ["point", axis.name, *LOSSES, "learning rate", "train s"]
    rows = []
    for point in axis.points:
        losses = [str(point.mean(loss)) for loss in LOSSES]
        rate, seconds = f"{point.learning_rate:g}", f"{point.seconds:.0f}"
        rows.append([point.label, f"{point.size:,.0f}", *losses, rate, seconds])
    return markdown_table(headings, rows)
