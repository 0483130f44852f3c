"""What a build prints at its end."""

from collections.abc import Iterable, Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from builder.recipe.recipe import Recipe
from builder.run_folder import Stamp

METRICS = {
    "slate_gauc": "GAUC per slate",
    "auc": "AUC",
    "gauc": "GAUC per user",
    "slate_ndcg": "NDCG@10",
    "log_loss": "log loss",
    "pcoc": "PCOC",
    "ece": "ECE",
}
DIGITS = {"log_loss": 5, "ece": 5}
"""Of metrics that are not written with four."""
LABEL_WIDTH = 16
"""Characters of a row's name that stay on one line at 80 columns."""


def quality_table(report: Mapping[str, Any]) -> Table:
    """Metrics on the test period: the model's, the baselines', and the best possible AUC where it is known."""
    table = Table(
        title="On the test period", title_justify="left", box=SIMPLE_HEAD, padding=(0, 0, 0, 1)
    )
    table.add_column("", min_width=LABEL_WIDTH)
    shown = [metric for metric in METRICS if report["test"].get(metric) is not None]
    for metric in shown:
        table.add_column(METRICS[metric].replace(" ", "\n"), justify="right")
    for name, metrics in _measured(report):
        values = {metric: metrics.get(metric) for metric in shown}
        table.add_row(
            name,
            *(
                "" if value is None else f"{value:.{DIGITS.get(metric, 4)}f}"
                for metric, value in values.items()
            ),
        )
    return table


def _measured(report: Mapping[str, Any]) -> Iterable[tuple[str, Mapping[str, Any]]]:
    yield "this model", report["test"]
    if report["trained_graph"]:
        yield "this model, as trained", report["trained_graph"]
    if report.get("uncalibrated"):
        yield f"before calibration ({report['calibration']['kind']})", report["uncalibrated"]
    if report["floor"]:
        yield "baseline: counts", report["floor"]
    if report["trees_floor"]:
        yield "baseline: trees", report["trees_floor"]
    if report["oracle_auc"] is not None:
        yield "oracle (true probabilities)", {"auc": report["oracle_auc"]}


def record_sizes(result: Mapping[str, Any]) -> str:
    """Sizes of the records that the precompute step wrote; a stamp of an older builder has no largest one."""
    mean = result["bytes_per_user"]
    return f"{mean:,} bytes each on average, at most {result.get('largest_bytes', mean):,}"


def run_summary(recipe: Recipe, stamps: Mapping[str, Stamp]) -> str:
    """What a run published: the log, the records, the generation that serves."""
    log, records = stamps["ingest"].result, stamps["precompute"].result
    published = stamps["publish"].result
    return (
        f"{recipe.name}: model {recipe.model.name}, served as {recipe.serve_as!r}\n"
        f"  log         {log['events']:,} events, {log['users']:,} users, {log['items']:,} items\n"
        f"  records     {records['users']:,} users, {record_sizes(records)} ({recipe.cache.dtype})\n"
        f"  generation  {published['name']}\n"
        f"  artifact    {published['artifact_id']}"
    )
