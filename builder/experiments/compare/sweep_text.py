"""A comparison's sweeps and the winner's ablation, as Markdown: each with differences to the row it starts from."""

from collections.abc import Iterable
from typing import Any

from builder.experiments.compare.columns import (
    NAMES,
    Column,
    byte_columns,
    metric_columns,
    microseconds,
    signed_as,
)
from builder.experiments.compare.table import Comparison, Row, SweepRows
from builder.experiments.report.markdown import markdown_table

DIFFERENCES = ("auc", "slate_ndcg", "log_loss")
"""That are shown beside that of the main metric."""


def ablation_lines(comparison: Comparison) -> Iterable[str]:
    """The winner, and what each option is worth: the row without it less the winner."""
    winner, rows = comparison.winner, comparison.ablation
    if winner is None or not rows:
        return
    yield from ("", f"## Ablation of {winner.label}", "")
    yield "One option less each, with a search of its own. Differences: without the option less with it, paired."
    yield ""
    shown = {"model": _label, **_columns(comparison, winner)}
    yield from markdown_table(
        list(shown), ([show(r) for show in shown.values()] for r in (winner, *rows))
    )


def sweep_lines(comparison: Comparison) -> Iterable[str]:
    """A table for each sweep."""
    for sweep in comparison.sweeps:
        yield from ("", f"## Sweep: {sweep.label}", "")
        rate = sweep.rows[0][1].learning_rate
        yield (
            f"{sweep.variant} with other values of `{sweep.key}`; its learning rate, {rate:g}, and what else the search"
        )
        base = start_of(comparison, sweep)
        if base is None:
            yield "chose were not searched again."
        else:
            yield "chose were not searched again. Differences are paired, and blank at the variant's own value."
        yield ""
        shown = _columns(comparison, base)
        rows = (
            [str(value), *(show(row) for show in shown.values())]
            for value, row in ((value, _own(row, base)) for value, row in sweep.rows)
        )
        yield from markdown_table([sweep.key, *shown], rows)


def start_of(comparison: Comparison, sweep: SweepRows) -> Row | None:
    """The row of the variant that a sweep starts from; None if it is not trained."""
    return next((row for row in comparison.rows if row.label == sweep.variant), None)


def is_start(row: Row, base: Row | None) -> bool:
    """Whether a sweep's value is the variant's own: the trainings of the seeds that both have are the same."""
    if base is None:
        return False
    known = {outcome["seed"]: outcome for outcome in base.outcomes}
    common = [outcome for outcome in row.outcomes if outcome["seed"] in known]
    return bool(common) and all(known[outcome["seed"]] == outcome for outcome in common)


def _own(row: Row, base: Row | None) -> Row:
    """The variant's row where the value is its own."""
    return base if base is not None and is_start(row, base) else row


def _columns(comparison: Comparison, base: Row | None) -> dict[str, Column]:
    main = comparison.main_metric
    wanted = [main, *(metric for metric in DIFFERENCES if metric != main)]
    shown = metric_columns(comparison, wanted)
    if base is not None:
        shown |= {
            f"{NAMES[metric]} less {base.label}": _less(base, metric)
            for metric in wanted
            if base.values(metric)
        }
    wanted_bytes = ("bytes, fp32", "bytes, fp16")
    bytes_ = {name: show for name, show in byte_columns(comparison).items() if name in wanted_bytes}
    gaps: dict[str, Column] = {}
    if any(row.gap("auc") for sweep in comparison.sweeps for _, row in sweep.rows):
        gaps["AUC, served less trained"] = lambda row: signed_as("auc", row.gap("auc"))
    return {
        **shown,
        **gaps,
        "seeds": lambda row: str(len(row.outcomes)),
        **bytes_,
        "µs/candidate": microseconds,
    }


def _less(base: Row, metric: str) -> Column:
    return lambda row: signed_as(metric, row.over(base, metric))


def _label(row: Row) -> str:
    return row.label


def sweep_differences(comparison: Comparison, sweep: SweepRows) -> list[dict[str, Any]]:
    """Of each value to the variant's own, in JSON types."""
    base = start_of(comparison, sweep)
    found = []
    for value, row in sweep.rows:
        less: dict[str, Any] = {}
        for metric in (comparison.main_metric, *DIFFERENCES):
            difference = _own(row, base).over(base, metric)
            if difference is not None:
                less[metric] = {"mean": difference.mean, "half": difference.half}
        found.append({"value": value, "less_own": less})
    return found
