"""Tables that the command line prints."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rich.table import Table

from builder.experiments.compare.table import Comparison
from builder.experiments.compare.text import table_cells
from builder.publish.status import ModelStatus
from builder.recipe.recipe import Recipe
from builder.run_folder import Stamp

if TYPE_CHECKING:
    from builder.experiments.llactr.findings import Findings
    from builder.experiments.scaling.fit import Axis

MAIN = ("model", "AUC", "log loss", "learning rate", "train s", "bytes/user", "µs/candidate")
"""Columns of a comparison for a terminal, beside its differences."""


def summary_table(recipe: Recipe, stamps: Mapping[str, Stamp]) -> Table:
    """What a run came to: metrics, users, bytes, seconds."""
    table = Table(
        title=f"{recipe.name}: {recipe.model.name} served as {recipe.serve_as!r}", show_header=False
    )
    table.add_column(style="bold")
    table.add_column()
    log, report = stamps["ingest"].result, stamps["evaluate"].result
    table.add_row(
        "log", f"{log['events']:,} events, {log['users']:,} users, {log['items']:,} items"
    )
    for name, text in _quality(report):
        table.add_row(name, text)
    made, served = stamps["precompute"].result, stamps["publish"].result
    table.add_row(
        "ONNX against torch", f"largest difference {stamps['export'].result['onnx_difference']:.1e}"
    )
    table.add_row("users published", f"{made['users']:,}")
    table.add_row("bytes per user", f"{made['bytes_per_user']:,} ({recipe.cache.dtype})")
    table.add_row("generation", f"{served['name']}, artifact {served['artifact_id']}")
    seconds = ", ".join(f"{name} {stamp.seconds:.1f}" for name, stamp in stamps.items())
    table.add_row("seconds", seconds)
    return table


def _quality(report: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    yield "test", _metrics(report["test"])
    if report["trained_graph"]:
        yield "test, trained graph", _metrics(report["trained_graph"])
    if report["floor"]:
        yield "floor (counts)", _metrics(report["floor"])
    if report.get("trees_floor"):  # reports of older builds have none
        yield "floor (trees on counts and ages)", _metrics(report["trees_floor"])
    if report["oracle_auc"] is not None:
        yield "oracle (Bayes-optimal)", f"AUC {report['oracle_auc']:.4f}"
    if report["by_history"]:
        cuts = ", ".join(f"{label}: {auc:.4f}" for label, auc in report["by_history"].items())
        yield "AUC by events in history", cuts


def _metrics(values: Mapping[str, float]) -> str:
    text = "AUC {auc:.4f}, GAUC {gauc:.4f}, log loss {log_loss:.4f}, PCOC {pcoc:.3f}, ECE {ece:.4f}"
    return text.format(**values)


def status_table(url: str, models: Iterable[ModelStatus]) -> Table:
    """What the cache holds."""
    table = Table(title=f"cache {url}")
    for name in (
        "model",
        "serves",
        "users",
        "roll back to",
        "bytes per user",
        "unfinished",
        "building now",
    ):
        table.add_column(name)
    for model in models:
        current = model.pointer.current if model.pointer else None
        previous = model.pointer.previous if model.pointer else None
        table.add_row(
            model.model,
            current.name if current else "nothing",
            f"{model.records.get(current.place, 0):,} of {current.num_users:,}" if current else "",
            previous.name if previous else "nothing",
            f"{model.record_bytes:,}" if model.record_bytes else "",
            ", ".join(model.unfinished) or "none",
            model.lock_holder or "nobody",
        )
    return table


def comparison_table(comparison: Comparison) -> Table:
    """Variants side by side: the columns that fit a terminal; `table.md` has all."""
    table = Table(title=comparison.name)
    headings, rows = table_cells(comparison)
    shown = [place for place, heading in enumerate(headings) if _is_main(heading)]
    for place in shown:
        table.add_column(headings[place], justify="right" if place else "left")
    for row in rows:
        table.add_row(*(row[place] for place in shown))
    return table


def scaling_table(axis: "Axis") -> Table:
    """The fits along one axis."""
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


def llactr_table(found: "Findings") -> Table:
    """RelaImpr of each arm."""
    table = Table(title=f"{found.comparison.name}: RelaImpr over the plain backbone, %")
    for heading in ("arm", *found.backbones, "mean"):
        table.add_column(heading)
    for arm in found.arms:
        values = [found.improvement(backbone, arm.name) for backbone in found.backbones]
        cells = ["" if value is None else f"{value.mean:+.2f}" for value in values]
        mean = found.mean_improvement(arm.name)
        half = "" if mean is None or mean.half is None else f" ± {mean.half:.2f}"
        table.add_row(arm.name, *cells, "" if mean is None else f"{mean.mean:+.2f}{half}")
    return table


def _is_main(heading: str) -> bool:
    return heading in MAIN or heading.startswith("AUC over ")
