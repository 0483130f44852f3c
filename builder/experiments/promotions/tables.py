"""Markdown of a comparison: quality, paired differences, training, and rows that are missing."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from builder.experiments.promotions.comparison import (
    METRICS,
    PAIRED,
    Comparison,
    Interval,
    Trainings,
    seed_interval,
)
from builder.experiments.promotions.rows import LONG, ROWS
from builder.experiments.report.markdown import markdown_table

SCALES = {"log_loss": (1e3, 3), "ece": (1e4, 2), "pcoc": (1.0, 3)}
"""Factor and digits of metrics; all others are written with four digits."""


def write_tables(comparison: Comparison) -> str:
    """All tables of a report."""
    lines = [
        "## Quality on the test visits",
        *_quality(comparison),
        "## Differences from a reference",
        *_differences(comparison),
        "## Training",
        *_training(comparison.rows),
        "## Rows without a result",
        *_missing(comparison),
    ]
    return "\n".join(lines)


def _quality(comparison: Comparison) -> list[str]:
    headings = ["model", "seeds", "GAUC (households)", "bought before", "new", "AUC", "NDCG@10"]
    headings += ["recall@10", "log loss ×10³", "PCOC", "ECE ×10⁴", "state, bytes"]
    body = []
    for row in comparison.rows:
        whole = comparison.intervals[row.label]["gauc"]
        parts = [comparison.intervals[row.label][name][0] for name in ("gauc_repeat", "gauc_new")]
        body.append(
            [
                row.results[0]["title"],
                str(len(row.results)),
                f"{_mean(row, 'gauc')} ({whole[1]:.4f} to {whole[2]:.4f})",
                *(f"{part:.4f}" for part in parts),
                *(_mean(row, name) for name in METRICS if name != "gauc"),
                f"{row.results[0]['state_bytes'][str(LONG)]:,}",
            ]
        )
    first = comparison.rows[0]
    note = (
        f"Whole pools of {len(first.vectors[0]['visit']):,} test visits: "
        f"{first.results[0]['test']['candidates']:,} candidates, "
        f"{first.results[0]['test']['positives']:,} of them bought. GAUC: mean AUC of the visits that bought something "
        'from their pool, with the 95 % interval of a bootstrap over households. "Bought before" and "new": GAUC of '
        "the positives that are, and are not, in the history, each against all negatives. ±: 95 % interval over seeds "
        f"(Student's t), where there are several. State: bytes at L = {LONG:,}; the raw history, 8 bytes an event, has "
        f"{8 * LONG:,} there."
    )
    return ["", *markdown_table(headings, body), "", note, ""]


def _differences(comparison: Comparison) -> list[str]:
    references = list(comparison.differences)
    headings = ["model"]
    headings += [f"GAUC less {name}" for name in references]
    headings += [f"log loss ×10³ less {name}" for name in references]
    body = [
        [
            row.results[0]["title"],
            *(
                _difference(comparison.differences[reference].get(row.label, {}).get(name), name)
                for name in PAIRED
                for reference in references
            ),
        ]
        for row in comparison.rows
    ]
    note = (
        "Mean over visits of the difference within the visit, with the 95 % interval of a bootstrap over households, "
        "seeds averaged. The variance between seeds is not in these intervals. Log loss: mean of the visits' means."
    )
    return ["", *markdown_table(headings, body), "", note, ""]


def _training(rows: list[Trainings]) -> list[str]:
    headings = ["model", "rate", "dropout", "best step", "steps", "ended by"]
    headings += [
        "validation GAUC",
        "validation log loss",
        "training loss at the best step",
        "at the end",
    ]
    headings += ["validation log loss at the end", "ms a step"]
    body = [
        [row.results[0]["title"], *_training_cells(result)]
        for row in rows
        for result in row.results
        if "training" in result
    ]
    note = (
        "Validation: the same 1,536 visits with 100 sampled negatives each, for every row. Training loss: weighted sum "
        "over a visit's sampled candidates, penalties included; another scale than validation's. Milliseconds are "
        "those of several trainings at once on one device: no measure of a model's speed."
    )
    return ["", *markdown_table(headings, body), "", note, ""]


def _training_cells(result: dict[str, Any]) -> list[str]:
    training, setting = result["training"], result["setting"]
    curve = training["curve"]
    best = next(point for point in curve if point["step"] == training["best_step"])
    return [
        f"{setting['rate']:g}",
        f"{setting['dropout']:g}",
        f"{training['best_step']:,}",
        f"{training['steps']:,}",
        training["ended"],
        f"{best['gauc']:.4f}",
        f"{best['log_loss']:.4f}",
        f"{best['train_loss']:.3f}",
        f"{curve[-1]['train_loss']:.3f}",
        f"{curve[-1]['log_loss']:.4f}",
        f"{training['step_ms']:.1f}",
    ]


def _missing(comparison: Comparison) -> list[str]:
    finished = {row.label for row in comparison.rows}
    lines = []
    for label, row in ROWS.items():
        if label in finished:
            continue
        trial = comparison.trials.get(label)
        state = (
            "not started"
            if trial is None
            else (
                f"searched only; best trial: validation GAUC {trial['gauc']:.4f} "
                f"(rate {trial['rate']:g}, dropout {trial['dropout']:g})"
            )
        )
        lines.append(f"- {row.title} (`{label}`): {state}")
    return ["", *(lines or ["None."]), ""]


def _mean(row: Trainings, name: str) -> str:
    factor, digits = SCALES.get(name, (1.0, 4))
    return _plus_minus(row.values(name) * factor, digits)


def _plus_minus(values: NDArray[np.float64], digits: int) -> str:
    half = seed_interval(values)
    mean = f"{values.mean():.{digits}f}"
    return mean if np.isnan(half) else f"{mean} ± {half:.{digits}f}"


def _difference(interval: Interval | None, name: str) -> str:
    if interval is None:
        return ""
    factor, digits = SCALES.get(name, (1.0, 4))
    mean, low, high = (factor * value for value in interval)
    return f"{mean:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})"
