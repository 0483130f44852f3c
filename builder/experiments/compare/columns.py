"""Columns of a comparison's tables: what a row shows under each heading."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from builder.evaluate.record_sizes import EVENT_BYTES
from builder.experiments.compare.table import METRICS, Comparison, Estimate, Row
from models.contract.state_spec import RecordDtype

FLOORS = {
    "counts": "floor: logistic regression on counts",
    "trees": "floor: boosted trees on counts and ages",
}
NAMES = {
    "slate_gauc": "GAUC per slate",
    "slate_gauc_repeat": "bought before",
    "slate_gauc_new": "new",
    "auc": "AUC",
    "gauc": "GAUC per user",
    "slate_ndcg": "NDCG@10",
    "slate_recall": "recall@10",
    "log_loss": "log loss",
    "pcoc": "PCOC",
    "ece": "ECE",
}
"""Metric -> heading. A metric that no row has is not shown."""
LOWER_IS_BETTER = ("log_loss", "ece")
COST = ("learning rate", "best step", "stopped", "train s", "µs/candidate")
"""Headings of the table of trainings and costs, with those that start with `BYTES`."""
BYTES = ("bytes, ", "of raw, ")
DIGITS = {"log_loss": 6, "ece": 6, "pcoc": 3}
"""Of metrics that are not written with four."""
Column = Callable[[Row], str]


def columns(comparison: Comparison) -> dict[str, Column]:
    """Heading -> what a row shows under it."""
    shown: dict[str, Column] = {"model": lambda row: row.label, "family": lambda row: row.family}
    main = comparison.main_metric
    shown |= metric_columns(comparison, [main])
    for other in filter(None, (comparison.full, comparison.two_stage)):
        shown |= difference_columns(comparison, other)
    shown |= metric_columns(comparison, [metric for metric in METRICS if metric != main])
    return shown | {
        **byte_columns(comparison),
        "AUC, served less trained": lambda row: in_words(row.gap("auc")),
        "log loss, served less trained": lambda row: in_words(row.gap("log_loss")),
        "learning rate": _rate,
        "validation": _validation,
        "seeds": lambda row: str(len(row.outcomes)),
        "best step": _steps,
        "stopped": _stopped,
        "train s": lambda row: f"{row.seconds():.0f}",
        "µs/candidate": microseconds,
    }


def difference_columns(
    comparison: Comparison, other: Row, metrics: Sequence[str] = ()
) -> dict[str, Column]:
    """Metrics less those of a row; without metrics: the main one, AUC and log loss."""
    chosen = metrics or dict.fromkeys((comparison.main_metric, "auc", "log_loss"))
    return {
        f"{NAMES[metric]} less {other.label}": partial(_less, other=other, metric=metric)
        for metric in chosen
        if other.values(metric)
    }


def metric_columns(comparison: Comparison, metrics: Iterable[str]) -> dict[str, Column]:
    """Metrics that a row or a floor has."""
    return {
        NAMES[metric]: partial(_metric, metric=metric)
        for metric in metrics
        if any(row.values(metric) for row in comparison.rows)
        or any(metric in floor for floor in comparison.floors.values())
    }


def byte_columns(comparison: Comparison) -> dict[str, Column]:
    """Bytes of a record: mean over users, the largest, and at fp16 over those of the raw histories."""
    length = comparison.history_length
    return {
        "bytes, fp32": lambda row: f"{row.sizes.mean['fp32']:,}" if row.sizes else "",
        "bytes, fp16": lambda row: f"{row.sizes.mean['fp16']:,}" if row.sizes else "",
        "bytes, fp16, largest": lambda row: f"{row.sizes.largest['fp16']:,}" if row.sizes else "",
        "of raw, mean": lambda row: _over(row.sizes.mean, row.sizes.raw) if row.sizes else "",
        f"of raw, L = {length:,}": lambda row: (
            _over(row.sizes.largest, EVENT_BYTES * length) if row.sizes and length else ""
        ),
    }


def _over(sizes: Mapping[RecordDtype, int], raw: int) -> str:
    return f"{sizes['fp16'] / raw:.2f}" if raw else ""


def microseconds(row: Row) -> str:
    """To score a candidate."""
    return f"{row.cost.us_per_candidate:.2f}" if row.cost else ""


def is_cost(heading: str) -> bool:
    """Whether a column is of the table of trainings and costs."""
    return heading in COST or heading.startswith(BYTES)


def is_difference(heading: str) -> bool:
    """Whether a column holds differences to another row."""
    return " less " in heading and "served" not in heading


def in_words(value: Estimate | None, digits: int = 4) -> str:
    """Mean ± half of the interval."""
    if value is None:
        return ""
    mean = f"{value.mean:.{digits}f}"
    return mean if value.half is None else f"{mean} ± {value.half:.{digits}f}"


def signed(value: Estimate | None, digits: int = 5) -> str:
    """A difference: finer than a metric, and with its sign."""
    if value is None:
        return ""
    half = "" if value.half is None else f" ± {value.half:.{digits}f}"
    return f"{value.mean:+.{digits}f}{half}"


def signed_as(metric: str, value: Estimate | None) -> str:
    """A difference of a metric, in its digits."""
    return signed(value, DIGITS.get(metric, 5))


def verdict(metric: str, value: Estimate | None) -> str:
    """Whether the interval of a difference is all on the better side, on the worse, or holds 0; "" without interval."""
    if value is None or value.half is None or not np.isfinite(value.half):
        return ""
    better = -value.mean if metric in LOWER_IS_BETTER else value.mean
    if abs(better) <= value.half:
        return "level"
    return "ahead" if better > 0 else "behind"


def floor_cells(metrics: Mapping[str, Any], headings: Sequence[str]) -> list[str]:
    """A baseline's metrics under these headings."""
    values = {
        heading: f"{metrics[name]:.{DIGITS.get(name, 4)}f}"
        for name, heading in NAMES.items()
        if metrics.get(name) is not None
    }
    return [values.get(heading, "") for heading in headings]


def _metric(row: Row, metric: str) -> str:
    return in_words(row.metric(metric), DIGITS.get(metric, 4))


def _less(row: Row, other: Row, metric: str) -> str:
    return signed(row.over(other, metric), DIGITS.get(metric, 4))


def _steps(row: Row) -> str:
    """Median over seeds of the step of the kept weights, and of the last."""
    best = [outcome["best_step"] for outcome in row.outcomes if "best_step" in outcome]
    if not best:
        return ""
    return f"{np.median(best):,.0f} of {np.median([o['steps'] for o in row.outcomes]):,.0f}"


def _stopped(row: Row) -> str:
    ends = [outcome["ended"] for outcome in row.outcomes if "ended" in outcome]
    return f"{ends.count('patience')} of {len(ends)}" if ends else ""


def _validation(row: Row) -> str:
    """Mean over seeds, with the lowest and the highest seed: these show whether a training diverged."""
    found = row.validations()
    ends = f" ({min(found):.4f} to {max(found):.4f})" if len(found) > 1 else ""
    return f"{row.validation():.4f}{ends}"


def _rate(row: Row) -> str:
    """With the number of rates that were tried; one at an end of the grid may not be the best there is."""
    tried = [trial["learning_rate"] for trial in row.trials]
    if not tried:
        return f"{row.learning_rate:g}"
    ends = {max(tried): ", the highest", min(tried): ", the lowest"}
    return f"{row.learning_rate:g} (of {len(set(tried))}{ends.get(row.learning_rate, '')})"
