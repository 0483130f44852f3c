"""Tables that the nightly commands print."""

from collections.abc import Iterable, Mapping
from typing import Any

from rich.table import Table

from builder.publish.status import ModelStatus
from builder.recipe.recipe import Recipe
from builder.run_folder import Stamp

METRICS = {"auc": "AUC", "gauc": "GAUC", "log_loss": "log loss", "pcoc": "PCOC", "ece": "ECE"}


def quality_table(report: Mapping[str, Any]) -> Table:
    """Metrics on the test period: the model's, the baselines', and the best possible AUC where it is known."""
    table = Table(title="On the test period", title_justify="left")
    table.add_column("")
    for heading in METRICS.values():
        table.add_column(heading, justify="right")
    for name, metrics in _measured(report):
        values = (metrics.get(metric) for metric in METRICS)
        table.add_row(name, *("" if value is None else f"{value:.4f}" for value in values))
    return table


def _measured(report: Mapping[str, Any]) -> Iterable[tuple[str, Mapping[str, float]]]:
    yield "this model", report["test"]
    if report["trained_graph"]:
        yield "this model, as trained", report["trained_graph"]
    if report["floor"]:
        yield "baseline: counts", report["floor"]
    if report["trees_floor"]:
        yield "baseline: trees", report["trees_floor"]
    if report["oracle_auc"] is not None:
        yield "oracle (Bayes-optimal)", {"auc": report["oracle_auc"]}


def run_summary(recipe: Recipe, stamps: Mapping[str, Stamp]) -> str:
    """What a run published: the log, the records, the generation that serves."""
    log, records = stamps["ingest"].result, stamps["precompute"].result
    published = stamps["publish"].result
    return (
        f"{recipe.name}: model {recipe.model.name}, served as {recipe.serve_as!r}\n"
        f"  log         {log['events']:,} events, {log['users']:,} users, {log['items']:,} items\n"
        f"  records     {records['users']:,} users, {records['bytes_per_user']:,} bytes each ({recipe.cache.dtype})\n"
        f"  generation  {published['name']}\n"
        f"  artifact    {published['artifact_id']}"
    )


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
            model.lock_holder or "no builder",
        )
    return table
