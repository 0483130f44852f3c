"""A comparison as Markdown and JSON: the table, what it was cut by, the sweeps, and how it was made."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from typing import Any

from builder.experiments.compare.table import METRICS, Comparison, Estimate, Row, SweepRows
from builder.experiments.report.markdown import markdown_table

FLOORS = {
    "counts": "floor: logistic regression on counts",
    "trees": "floor: boosted trees on counts and ages",
}
NOTES = (
    "Mean over seeds ± half of the 95% Student interval. Differences of AUC are paired by seed: both trainings of a",
    "pair saw the same batches. The best two-stage model is the one with the best mean validation AUC. `served less",
    "trained`: what a model loses by serving another graph than it trained; blank where they are one. `train s`:",
    "median, on one thread. `bytes/user`: the record in the cache at fp32. `µs/candidate`: the exported score graph in",
    "ONNX Runtime on one thread, 1,000 candidates in blocks of the size that is fastest for the model; median.",
)
FAMILIES = (
    "Families: `lrea` folds the history into slots; `two-stage` searches it, then attends to the matches; `full`",
    "attends to every event, `stacked` in several layers, its events to each other too; `pooled` has one summary for",
    "all candidates; `none` leaves the long history out; `control` only explains another model.",
)
Column = Callable[[Row], str]


def columns(comparison: Comparison) -> dict[str, Column]:
    """Heading -> what a row shows under it."""
    shown: dict[str, Column] = {
        "model": lambda row: row.label,
        "family": lambda row: row.family,
        "AUC": lambda row: _text(row.metric("auc")),
    }
    full, two_stage = comparison.full, comparison.two_stage
    if full is not None:
        shown[f"AUC over {full.label}"] = lambda row: _text(row.over(full))
    if two_stage is not None:
        name = f"AUC over {two_stage.label} (best two-stage)"
        shown[name] = lambda row: _text(row.over(two_stage))
    return shown | {
        "GAUC": lambda row: _text(row.metric("gauc")),
        "log loss": lambda row: _text(row.metric("log_loss")),
        "PCOC": lambda row: _text(row.metric("pcoc")),
        "AUC, served less trained": lambda row: _text(row.gap("auc")),
        "log loss, served less trained": lambda row: _text(row.gap("log_loss")),
        "learning rate": _rate,
        "seeds": lambda row: str(len(row.outcomes)),
        "train s": lambda row: f"{row.seconds():.0f}",
        "bytes/user": _bytes,
        "µs/candidate": _us,
    }


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
    names = dict(zip(("AUC", "GAUC", "log loss", "PCOC"), METRICS, strict=True))
    known = [(FLOORS[name], metrics) for name, metrics in comparison.floors.items()]
    if comparison.oracle_auc is not None:
        known.append(("oracle: the true probabilities", {"auc": comparison.oracle_auc}))
    for label, metrics in known:
        values = {heading: metrics[name] for heading, name in names.items() if name in metrics}
        cells = [f"{values[heading]:.4f}" if heading in values else "" for heading in shown]
        rows.append([label, *cells[1:]])
    return list(shown), rows


def to_markdown(comparison: Comparison, command: str) -> str:
    """Everything, with the command that made it."""
    lines = [f"# {comparison.name}: models of long histories side by side", ""]
    lines += [
        f"Made by `{command}`.",
        "",
        *NOTES,
        "",
        *markdown_table(*table_cells(comparison)),
        "",
    ]
    lines += [f"{comparison.num_targets:,} test targets. {comparison.budget}", "", *FAMILIES, ""]
    lines += [f"- {name}: {value}" for name, value in comparison.machine.items()]
    if comparison.rows:
        lines += [*_pairs(comparison), *_stored(comparison), *_cuts(comparison)]
    for sweep in comparison.sweeps:
        lines += ["", f"## Sweep: {sweep.label}", "", *_sweep(sweep)]
    return "\n".join(lines) + "\n"


def _pairs(comparison: Comparison) -> Iterable[str]:
    pairs = comparison.pairs()
    if not pairs:
        return
    yield from ("", "## Held against each other", "", "Paired by seed.", "")
    rows = (
        [row.label, other.label, _signed(row.over(other)), _signed(row.over(other, "log_loss"))]
        for row, other in pairs
    )
    yield from markdown_table(["model", "less", "AUC", "log loss"], rows)


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


def _cuts(comparison: Comparison) -> Iterable[str]:
    first = comparison.rows[0]
    yield from ("", "## AUC by where the evidence lies", "")
    yield "Means over seeds, within groups of targets. In brackets: the group's targets and its share of positives. A"
    yield "group of one label, or of too few targets, has no AUC. A history is the latest L events; `recent` are its"
    yield "latest N, which every model sees."
    for name, groups in first.outcomes[0]["cuts"].items():
        yield from ("", f"### {name[0].upper()}{name[1:]}", "")
        yield from markdown_table(
            ["model", *_group_headings(groups)],
            ([row.label, *map(_mean, row.cut(name).values())] for row in comparison.rows),
        )
    yield from ("", "### Number of events in the history", "")
    yield from markdown_table(
        ["model", *_group_headings(first.outcomes[0]["by_history"])],
        ([row.label, *map(_mean, row.by_history().values())] for row in comparison.rows),
    )


def _group_headings(groups: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return [
        f"{name} ({group['targets']:,}; {group['share']:.2%})" for name, group in groups.items()
    ]


def _sweep(sweep: SweepRows) -> Iterable[str]:
    rate = sweep.rows[0][1].learning_rate
    yield f"{sweep.variant} with other values of `{sweep.key}`; its learning rate, {rate:g}, was not searched again."
    yield ""
    shown: dict[str, Column] = {
        "AUC": lambda row: _text(row.metric("auc")),
        "AUC, served less trained": lambda row: _text(row.gap("auc")),
        "log loss": lambda row: _text(row.metric("log_loss")),
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
        estimates |= {"auc_over_full": row.over(full), "auc_over_two_stage": row.over(two_stage)}
        estimates |= {f"{name}_served_less_trained": row.gap(name) for name in ("auc", "log_loss")}
        means = {name: asdict(value) for name, value in estimates.items() if value is not None}
        return {"means": means, **row.to_dict()}

    return {
        "command": command,
        "machine": dict(comparison.machine),
        "budget": comparison.budget,
        "full": full.label if full else None,
        "best_two_stage": two_stage.label if two_stage else None,
        "oracle_auc": comparison.oracle_auc,
        "floors": dict(comparison.floors),
        "pairs": [
            {"model": row.label, "less": other.label}
            | {
                name: asdict(difference)
                for name in ("auc", "log_loss")
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


def _mean(value: Estimate | None) -> str:
    return "" if value is None else f"{value.mean:.4f}"


def _text(value: Estimate | None) -> str:
    return "" if value is None else str(value)


def _signed(value: Estimate | None) -> str:
    """Finer than `_text`: a difference is."""
    if value is None:
        return ""
    return f"{value.mean:+.5f}" + ("" if value.half is None else f" ± {value.half:.5f}")
