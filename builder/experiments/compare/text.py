"""A comparison as Markdown and JSON: the tables, what they were cut by, the sweeps, and how it was made."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from builder.evaluate.record_sizes import EVENT_BYTES
from builder.experiments.compare.claims_text import claims_lines
from builder.experiments.compare.columns import (
    FLOORS,
    NAMES,
    columns,
    floor_cells,
    in_words,
    is_cost,
    is_difference,
    signed,
    signed_as,
)
from builder.experiments.compare.cost import CANDIDATES
from builder.experiments.compare.cut_text import cut_lines
from builder.experiments.compare.sweep_text import ablation_lines, sweep_differences, sweep_lines
from builder.experiments.compare.table import METRICS, Comparison, Row
from builder.experiments.report.markdown import markdown_table

NOTES = (
    "Mean over seeds ± half of the 95% interval. Where metrics of each slate were kept, the interval is over users",
    "and seeds: a bootstrap draws users (2,000 draws), and the variance over seeds is added; differences are paired by",
    "user and by seed (`builder/evaluate/intervals.py`). Elsewhere it is Student's, over seeds, paired by seed.",
    "Differences are to the best `full` and the best `two-stage` by mean validation. `GAUC per slate`: mean AUC of the",
    "slates with both labels; `bought before` and `new`: its positives that are, and are not, in the history, each",
    "against all negatives of its slate; `GAUC per user` weights users by their targets. `served less trained`: what a",
    "model loses by serving another graph than it trained; blank where they are one. `stopped`: trainings that ended",
    "because validation had stopped improving; `validation`: their best, GAUC per slate where it was measured: mean,",
    "and from the worst seed to the best. A row of one seed has an interval over users alone.",
    "`train s`: median, on one thread unless said otherwise. `bytes`: a user's record in the cache, mean and largest",
    "over users; `of raw`: at fp16, over the bytes of the same users' raw histories. No model is calibrated.",
)
COST_NOTES = (
    "`µs/candidate`: the exported score graph in ONNX Runtime on one thread, for {candidates:,} candidates in blocks",
    "of the size that is fastest for the model; median. All models took turns, apart from the trainings, on {cpu}",
    "({cores} cores, {runtime}, revision {revision}, {date}; load average before it {load average at start}).",
)
FAMILIES = (
    "Families: `lrea` folds the history into slots; `two-stage` searches it, then attends to the matches; `full`",
    "attends to every event, `stacked` in several layers, its events to each other too; `pooled` has one summary for",
    "all candidates; `none` leaves the long history out, or counts it; `control` only explains another model.",
)
COMPARED = ("auc", "gauc", "slate_ndcg", "log_loss")
"""Metrics of differences, beside the main one: GAUC per user where slates are too small for theirs, NDCG where slates
are whole."""


def table_cells(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Headings and rows: variants, floors, and the oracle where there is one."""
    shown = columns(comparison)
    rows = [[show(row) for show in shown.values()] for row in comparison.models]
    known = [(FLOORS[name], metrics) for name, metrics in comparison.floors.items()]
    if comparison.oracle_auc is not None:
        known.append(("oracle: the true probabilities", {"auc": comparison.oracle_auc}))
    rows += [[label, *floor_cells(metrics, list(shown)[1:])] for label, metrics in known]
    return list(shown), rows


def _main_tables(comparison: Comparison) -> Iterable[str]:
    """Quality, differences, then training and cost; columns that are blank in every row are left out."""
    headings, rows = table_cells(comparison)
    shown = [
        place for place in range(len(headings)) if place < 2 or any(row[place] for row in rows)
    ]
    cost = [place for place in shown if is_cost(headings[place])]
    differences = [place for place in shown if is_difference(headings[place])]
    quality = [place for place in shown if place not in (*cost, *differences)]
    own = rows[: len(comparison.models)]
    yield from _part(headings, quality, rows)
    if differences:
        yield from _part(headings, [0, *differences], own, "### Differences")
    if own:
        yield from _part(headings, [0, *cost], own, "### Training and cost")


def _part(
    headings: Sequence[str],
    places: Sequence[int],
    rows: Sequence[Sequence[str]],
    title: str | None = None,
) -> Iterable[str]:
    if title is not None:
        yield from ("", title, "")
    cells = ([row[place] for place in places] for row in rows)
    yield from markdown_table([headings[place] for place in places], cells)


def to_markdown(comparison: Comparison, command: str) -> str:
    """Everything, with the command that made it."""
    lines = [f"# {comparison.name}: models of long histories side by side", ""]
    lines += [f"Made by `{command}`.", "", *NOTES, *_cost_notes(comparison), ""]
    lines += [*_main_tables(comparison), ""]
    lines += [f"{comparison.num_targets:,} test targets. {comparison.budget}", "", *FAMILIES, ""]
    lines += history_lines(comparison)
    if comparison.missing:
        labels = ", ".join(comparison.missing)
        lines += ["", f"Not trained to the end, and not shown: {labels}."]
    if comparison.rows:
        lines += [*claims_lines(comparison), *_over_floors(comparison), *_pairs(comparison)]
        lines += [*ablation_lines(comparison), *_stored(comparison)]
    lines += sweep_lines(comparison)
    if comparison.rows:
        lines += cut_lines(comparison)
    return "\n".join(lines) + "\n"


def _cost_notes(comparison: Comparison) -> Iterable[str]:
    """How costs were measured, and where; nothing if no row has one."""
    if comparison.machine:
        known = {"candidates": CANDIDATES, **comparison.machine}
        yield from (line.format_map(known) for line in COST_NOTES)


def history_lines(comparison: Comparison) -> Iterable[str]:
    """Bytes of the raw history, with which records are compared."""
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
    metrics = _compared(comparison)
    yield from ("", "## Paired differences", "", "Paired by seed, and by user where kept.", "")
    rows = (
        [row.label, other.label, *(signed_as(name, row.over(other, name)) for name in metrics)]
        for row, other in pairs
    )
    yield from markdown_table(["model", "less", *(NAMES[metric] for metric in metrics)], rows)


def _over_floors(comparison: Comparison) -> Iterable[str]:
    if not comparison.floors or not comparison.rows:
        return
    cells = [(name, metric) for metric in _compared(comparison) for name in comparison.floors]
    yield from ("", "## Over the floors", "")
    yield "Metric less that of the floor. A model whose interval holds 0 has not cleared it."
    yield ""
    headings = [f"{NAMES[metric]} less {name}" for name, metric in cells]
    rows = (
        [row.label, *(signed_as(m, _over_floor(comparison, row, name, m)) for name, m in cells)]
        for row in comparison.models
    )
    yield from markdown_table(["model", *headings], rows)


def _over_floor(comparison: Comparison, row: Row, name: str, metric: str) -> Any:
    return row.over_floor(comparison.floors[name], comparison.floors_resampled.get(name), metric)


def _compared(comparison: Comparison) -> list[str]:
    main = comparison.main_metric
    left_out = {"gauc"} if main == "slate_gauc" else {"slate_ndcg"}
    if not any(row.values("slate_ndcg") for row in comparison.rows):
        left_out.add("slate_ndcg")
    return [name for name in dict.fromkeys((main, *COMPARED)) if name not in left_out]


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
            cells += ["" if size is None else f"{size:,}", signed(loss)]
        rows.append([row.label, in_words(row.metric("auc")), *cells])
    yield from markdown_table(["model", "AUC", *headings], rows)


def to_json(comparison: Comparison, command: str) -> dict[str, Any]:
    """Everything, as JSON's types."""
    known = {
        "full": comparison.full,
        "best_two_stage": comparison.two_stage,
        "winner": comparison.winner,
    }
    return {
        "command": command,
        "machine": dict(comparison.machine),
        "budget": comparison.budget,
        "history_length": comparison.history_length,
        "median_events": comparison.median_events,
        "missing": list(comparison.missing),
        **{name: row.label if row else None for name, row in known.items()},
        "oracle_auc": comparison.oracle_auc,
        "floors": dict(comparison.floors),
        "pairs": [
            {"model": row.label, "less": other.label} | _differences(comparison, row, other)
            for row, other in comparison.pairs()
        ],
        "rows": [_with_means(comparison, row) for row in comparison.rows],
        "sweeps": [
            {
                "label": sweep.label,
                "variant": sweep.variant,
                "key": sweep.key,
                "rows": [
                    less | _with_means(comparison, row)
                    for less, (_, row) in zip(
                        sweep_differences(comparison, sweep), sweep.rows, strict=True
                    )
                ],
            }
            for sweep in comparison.sweeps
        ],
    }


def _differences(comparison: Comparison, row: Row, other: Row | None) -> dict[str, Any]:
    found = {metric: row.over(other, metric) for metric in _compared(comparison)}
    return {metric: asdict(value) for metric, value in found.items() if value is not None}


def _with_means(comparison: Comparison, row: Row) -> dict[str, Any]:
    estimates = {name: row.metric(name) for name in METRICS}
    for metric in _compared(comparison):
        estimates[f"{metric}_over_full"] = row.over(comparison.full, metric)
        estimates[f"{metric}_over_two_stage"] = row.over(comparison.two_stage, metric)
        for name in comparison.floors:
            estimates[f"{metric}_over_{name}"] = _over_floor(comparison, row, name, metric)
    estimates |= {f"{name}_served_less_trained": row.gap(name) for name in ("auc", "log_loss")}
    means = {name: asdict(value) for name, value in estimates.items() if value is not None}
    return {"means": means, **row.to_dict()}
