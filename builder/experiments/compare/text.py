"""A comparison as Markdown and JSON: the table, what it was cut by, the sweeps, and how it was made."""

from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np

from builder.experiments.compare.cost import CANDIDATES
from builder.experiments.compare.cut_text import cut_lines
from builder.experiments.compare.table import (
    EVENT_BYTES,
    METRICS,
    Comparison,
    Estimate,
    Row,
    SweepRows,
)
from builder.experiments.report.markdown import markdown_table

FLOORS = {
    "counts": "floor: logistic regression on counts",
    "trees": "floor: boosted trees on counts and ages",
}
NOTES = (
    "Mean over seeds ± half of the 95% interval. Where metrics of each slate were kept, the interval is over users",
    "and seeds: a bootstrap draws users (2,000 draws), and the variance over seeds is added; differences are paired by",
    "user and by seed. Elsewhere it is Student's, over seeds, paired by seed. The best two-stage model is the one with",
    "the best mean validation. `GAUC per slate`: mean AUC of the slates with both labels; `bought before` and `new`:",
    "its positives that are, and are not, in the history, each against all negatives of its slate; `GAUC per user`",
    "weights users by their targets. `served less trained`: what a model loses by serving another graph than it",
    "trained; blank where they are one. `stopped`: trainings that ended because validation had stopped improving.",
    "`train s`: median, on one thread unless said otherwise. No model is calibrated.",
)
COST_NOTES = (
    "`bytes/user`: the record in the cache at fp32. `of raw`: the same over the bytes of the raw history.",
    "`µs/candidate`: the exported score graph in ONNX Runtime on one thread, for {candidates:,} candidates in blocks",
    "of the size that is fastest for the model; median. All models took turns, apart from the trainings, on {cpu}",
    "({cores} cores, {runtime}, revision {revision}, {date}; load average before it {load average at start}).",
)
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
COST = ("learning rate", "best step", "stopped", "train s", "bytes/user", "µs/candidate")
"""Headings of the second table."""
DIGITS = {"log_loss": 6, "ece": 6, "pcoc": 3}
"""Of metrics that are not written with four."""
FAMILIES = (
    "Families: `lrea` folds the history into slots; `two-stage` searches it, then attends to the matches; `full`",
    "attends to every event, `stacked` in several layers, its events to each other too; `pooled` has one summary for",
    "all candidates; `none` leaves the long history out; `control` only explains another model.",
)
Column = Callable[[Row], str]


def columns(comparison: Comparison) -> dict[str, Column]:
    """Heading -> what a row shows under it."""
    shown: dict[str, Column] = {"model": lambda row: row.label, "family": lambda row: row.family}
    main = comparison.main_metric
    shown |= _metric_columns(comparison, [main])
    full, two_stage = comparison.full, comparison.two_stage
    for metric in dict.fromkeys((main, "auc")):
        if full is not None:
            shown[f"{NAMES[metric]} over {full.label}"] = _over(full, metric)
        if two_stage is not None:
            name = f"{NAMES[metric]} over {two_stage.label} (best two-stage)"
            shown[name] = _over(two_stage, metric)
    shown |= _metric_columns(comparison, [metric for metric in METRICS if metric != main])
    return shown | {
        **_byte_columns(comparison),
        "AUC, served less trained": lambda row: _text(row.gap("auc")),
        "log loss, served less trained": lambda row: _text(row.gap("log_loss")),
        "learning rate": _rate,
        "seeds": lambda row: str(len(row.outcomes)),
        "best step": _steps,
        "stopped": _stopped,
        "train s": lambda row: f"{row.seconds():.0f}",
        "µs/candidate": _us,
    }


def _byte_columns(comparison: Comparison) -> dict[str, Column]:
    """Bytes of a record, and as a multiple of the raw history's: at L, and at the median of the test slates."""
    shown: dict[str, Column] = {"bytes/user": _bytes}
    length, median = comparison.history_length, comparison.median_events
    if length:
        shown[f"of raw, L = {length:,}"] = partial(_of_raw, events=length)
    if median:
        shown[f"of raw, {median:,} events"] = partial(_of_raw, events=median)
    return shown


def _of_raw(row: Row, events: int) -> str:
    return f"{row.cost.state_bytes / (EVENT_BYTES * events):.2f}" if row.cost else ""


def _metric_columns(comparison: Comparison, metrics: Iterable[str]) -> dict[str, Column]:
    return {
        NAMES[metric]: partial(_metric, metric=metric)
        for metric in metrics
        if any(row.values(metric) for row in comparison.rows)
        or any(metric in floor for floor in comparison.floors.values())
    }


def _metric(row: Row, metric: str) -> str:
    return _text(row.metric(metric), DIGITS.get(metric, 4))


def _over(other: Row, metric: str) -> Column:
    return lambda row: _text(row.over(other, metric))


def _steps(row: Row) -> str:
    """Median over seeds of the step of the kept weights, and of the last."""
    best = [outcome["best_step"] for outcome in row.outcomes if "best_step" in outcome]
    if not best:
        return ""
    return f"{np.median(best):,.0f} of {np.median([o['steps'] for o in row.outcomes]):,.0f}"


def _stopped(row: Row) -> str:
    ends = [outcome["ended"] for outcome in row.outcomes if "ended" in outcome]
    return f"{ends.count('patience')} of {len(ends)}" if ends else ""


def _rate(row: Row) -> str:
    """With the number of rates that were tried; one at an end of the grid may not be the best there is."""
    tried = [trial["learning_rate"] for trial in row.trials]
    if not tried:
        return f"{row.learning_rate:g}"
    ends = {max(tried): ", the highest", min(tried): ", the lowest"}
    return f"{row.learning_rate:g} (of {len(set(tried))}{ends.get(row.learning_rate, '')})"


def _bytes(row: Row) -> str:
    return f"{row.cost.state_bytes:,}" if row.cost else ""


def _us(row: Row) -> str:
    return f"{row.cost.us_per_candidate:.2f}" if row.cost else ""


def table_cells(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Headings and rows: variants, floors, and the oracle where there is one."""
    shown = columns(comparison)
    rows = [[show(row) for show in shown.values()] for row in comparison.rows]
    known = [(FLOORS[name], metrics) for name, metrics in comparison.floors.items()]
    if comparison.oracle_auc is not None:
        known.append(("oracle: the true probabilities", {"auc": comparison.oracle_auc}))
    for label, metrics in known:
        values = {
            heading: f"{metrics[name]:.{DIGITS.get(name, 4)}f}"
            for name, heading in NAMES.items()
            if metrics.get(name) is not None
        }
        rows.append([label, *(values.get(heading, "") for heading in list(shown)[1:])])
    return list(shown), rows


def _main_tables(comparison: Comparison) -> list[str]:
    """Quality, then training and cost; columns that are blank in every row are left out."""
    headings, rows = table_cells(comparison)
    shown = [
        place for place in range(len(headings)) if place < 2 or any(row[place] for row in rows)
    ]
    cost = [place for place in shown if _is_cost(headings[place])]
    quality = [place for place in shown if place not in cost]
    tables = [(quality, rows)]
    if comparison.rows:
        tables.append(([0, *cost], rows[: len(comparison.rows)]))
    lines: list[str] = []
    for places, wanted in tables:
        cells = ([row[place] for place in places] for row in wanted)
        lines += ["", *markdown_table([headings[place] for place in places], cells)]
    return lines[1:]


def _is_cost(heading: str) -> bool:
    return heading in COST or heading.startswith("of raw")


def to_markdown(comparison: Comparison, command: str) -> str:
    """Everything, with the command that made it."""
    lines = [f"# {comparison.name}: models of long histories side by side", ""]
    lines += [
        f"Made by `{command}`.",
        "",
        *NOTES,
        *_cost_notes(comparison),
        "",
        *_main_tables(comparison),
        "",
    ]
    lines += [f"{comparison.num_targets:,} test targets. {comparison.budget}", "", *FAMILIES, ""]
    lines += [*history_lines(comparison), ""]
    if comparison.missing:
        lines += [f"Not trained to the end, and not shown: {', '.join(comparison.missing)}.", ""]
    if comparison.rows:
        lines += [*_pairs(comparison), *_over_floors(comparison), *_stored(comparison)]
        lines += cut_lines(comparison)
    for sweep in comparison.sweeps:
        lines += ["", f"## Sweep: {sweep.label}", "", *_sweep(comparison, sweep)]
    return "\n".join(lines) + "\n"


def _cost_notes(comparison: Comparison) -> Iterable[str]:
    """How costs were measured, and where; nothing if no row has one."""
    if comparison.machine:
        known = {"candidates": CANDIDATES, **comparison.machine}
        yield from (line.format_map(known) for line in COST_NOTES)


def history_lines(comparison: Comparison) -> Iterable[str]:
    """Bytes of the raw history, which records are held against."""
    length, median = comparison.history_length, comparison.median_events
    if length:
        yield (
            f"The raw history, {EVENT_BYTES} bytes an event, has {EVENT_BYTES * length:,} bytes at L = {length:,}"
            + (
                f" and {EVENT_BYTES * median:,} at the median of the test slates, {median:,} events."
                if median is not None
                else "."
            )
        )


def _pairs(comparison: Comparison) -> Iterable[str]:
    pairs = comparison.pairs()
    if not pairs:
        return
    metrics = list(dict.fromkeys((comparison.main_metric, "auc", "log_loss")))
    yield from ("", "## Held against each other", "", "Paired by seed, and by user where kept.", "")
    rows = (
        [
            row.label,
            other.label,
            *(_signed(row.over(other, metric), DIGITS.get(metric, 5)) for metric in metrics),
        ]
        for row, other in pairs
    )
    yield from markdown_table(["model", "less", *(NAMES[metric] for metric in metrics)], rows)


def _over_floors(comparison: Comparison) -> Iterable[str]:
    if not comparison.floors or not comparison.rows:
        return
    metrics = (comparison.main_metric, "log_loss")
    cells = [(name, metric) for metric in metrics for name in comparison.floors]
    yield from ("", "## Over the floors", "")
    yield "Metric less that of the floor. A model whose interval holds 0 has not cleared it."
    yield ""
    headings = [f"{NAMES[metric]} less {name}" for name, metric in cells]
    rows = (
        [
            row.label,
            *(
                _signed(
                    row.over_floor(
                        comparison.floors[name], comparison.floor_vectors.get(name), metric
                    ),
                    DIGITS.get(metric, 5),
                )
                for name, metric in cells
            ),
        ]
        for row in comparison.rows
    )
    yield from markdown_table(["model", *headings], rows)


def _stored(comparison: Comparison) -> Iterable[str]:
    measured = [(row, row.stored()) for row in comparison.rows if row.stored()]
    if not measured:
        return
    yield from ("", "## Bytes of a record against AUC", "")
    yield "Records at fp32, fp16 and int8, and what the smaller ones lose of AUC on the same targets (a part of the"
    yield "test period), paired by training. Blank: the record's numbers do not fit."
    yield ""
    headings = ["fp32 bytes", "fp16 bytes", "fp16 less fp32", "int8 bytes", "int8 less fp32"]
    rows = []
    for row, stored in measured:
        cells = [f"{stored['fp32'][0]:,}"]
        for dtype in ("fp16", "int8"):
            size, loss = stored.get(dtype, (None, None))
            cells += ["" if size is None else f"{size:,}", _signed(loss)]
        rows.append([row.label, _text(row.metric("auc")), *cells])
    yield from markdown_table(["model", "AUC", *headings], rows)


def _sweep(comparison: Comparison, sweep: SweepRows) -> Iterable[str]:
    rate = sweep.rows[0][1].learning_rate
    yield f"{sweep.variant} with other values of `{sweep.key}`; its learning rate, {rate:g}, was not searched again."
    yield ""
    shown: dict[str, Column] = {
        **_metric_columns(comparison, [comparison.main_metric, "auc"]),
        "AUC, served less trained": lambda row: _text(row.gap("auc")),
        **_metric_columns(comparison, ["log_loss"]),
        "seeds": lambda row: str(len(row.outcomes)),
        "bytes/user": _bytes,
        "µs/candidate": _us,
    }
    rows = ([str(value), *(show(row) for show in shown.values())] for value, row in sweep.rows)
    yield from markdown_table([sweep.key, *shown], rows)


def to_json(comparison: Comparison, command: str) -> dict[str, Any]:
    """Everything, as JSON's types."""
    full, two_stage = comparison.full, comparison.two_stage

    def with_means(row: Row) -> dict[str, Any]:
        estimates = {name: row.metric(name) for name in METRICS}
        for metric in dict.fromkeys((comparison.main_metric, "auc", "log_loss")):
            estimates[f"{metric}_over_full"] = row.over(full, metric)
            estimates[f"{metric}_over_two_stage"] = row.over(two_stage, metric)
            for name, floor in comparison.floors.items():
                vectors = comparison.floor_vectors.get(name)
                estimates[f"{metric}_over_{name}"] = row.over_floor(floor, vectors, metric)
        estimates |= {f"{name}_served_less_trained": row.gap(name) for name in ("auc", "log_loss")}
        means = {name: asdict(value) for name, value in estimates.items() if value is not None}
        return {"means": means, **row.to_dict()}

    return {
        "command": command,
        "machine": dict(comparison.machine),
        "budget": comparison.budget,
        "history_length": comparison.history_length,
        "median_events": comparison.median_events,
        "missing": list(comparison.missing),
        "full": full.label if full else None,
        "best_two_stage": two_stage.label if two_stage else None,
        "oracle_auc": comparison.oracle_auc,
        "floors": dict(comparison.floors),
        "pairs": [
            {"model": row.label, "less": other.label}
            | {
                name: asdict(difference)
                for name in dict.fromkeys((comparison.main_metric, "auc", "log_loss"))
                if (difference := row.over(other, name))
            }
            for row, other in comparison.pairs()
        ],
        "rows": [with_means(row) for row in comparison.rows],
        "sweeps": [
            {
                "label": sweep.label,
                "variant": sweep.variant,
                "key": sweep.key,
                "rows": [{"value": value, **with_means(row)} for value, row in sweep.rows],
            }
            for sweep in comparison.sweeps
        ],
    }


def _text(value: Estimate | None, digits: int = 4) -> str:
    if value is None:
        return ""
    mean = f"{value.mean:.{digits}f}"
    return mean if value.half is None else f"{mean} ± {value.half:.{digits}f}"


def _signed(value: Estimate | None, digits: int = 5) -> str:
    """Finer than `_text`: a difference is."""
    if value is None:
        return ""
    half = "" if value.half is None else f" ± {value.half:.{digits}f}"
    return f"{value.mean:+.{digits}f}{half}"
