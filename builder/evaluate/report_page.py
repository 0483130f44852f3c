"""report.md and reliability.png in the run's folder: a build's report for people, from its JSON."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

REPORT_PAGE, RELIABILITY = "report.md", "reliability.png"
LOWEST = 1e-7
"""Smallest rate that is drawn: the axes are logarithmic, and a bin may have no positive."""
METRICS = {
    "slate_gauc": ("GAUC per slate", 4),
    "slate_gauc_repeat": ("… bought before", 4),
    "slate_gauc_new": ("… new", 4),
    "auc": ("AUC", 4),
    "gauc": ("GAUC per user", 4),
    "slate_ndcg": ("NDCG@10", 4),
    "slate_recall": ("recall@10", 4),
    "log_loss": ("log loss", 5),
    "pcoc": ("PCOC", 3),
    "ece": ("ECE", 5),
}
"""Metric -> heading and digits. Metrics that nothing has are left out."""
Json = Mapping[str, Any]


def write_report_page(
    report: Json, folder: Path, title: str, exceptions: Sequence[str]
) -> list[Path]:
    """Write both files; return their paths.

    Args:
        report: `Report.to_dict()`.
        folder: of the run.
        title: name of the recipe and the model.
        exceptions: what the recipe allows the leak audit to find, printed above the metrics.
    """
    page, picture = folder / REPORT_PAGE, folder / RELIABILITY
    page.write_text("\n".join(page_lines(report, title, exceptions)) + "\n")
    draw_reliability(report, picture)
    return [page, picture]


def page_lines(report: Json, title: str, exceptions: Sequence[str]) -> list[str]:
    """The page as lines of Markdown."""
    test = report["test"]
    slates = "" if test["slates"] is None else f" in {test['slates']:,} slates"
    lines = [f"# Report: {title}", "", *(f"**{line}**\n" for line in exceptions)]
    lines += [
        f"Test period: {test['targets']:,} targets{slates}, {test['positives']:,} of them positive "
        f"({test['positives'] / test['targets']:.3%}). How it was trained: [curve](checkpoint/curve.png). "
        "Rules that might give labels away: [audit.md](audit.md).",
        "",
        *_heads(report),
        *_quality(report),
        *_calibration(report),
        *_groups(report),
        *_records(report),
    ]
    return lines


def _heads(report: Json) -> list[str]:
    if report["head_fields"] is None:
        return []
    own, without = (", ".join(fields) for fields in report["head_fields"])
    line = f"Heads of attention start with a field each: {own}."
    return [f"{line} Fields without a head of their own: {without}." if without else line, ""]


def _quality(report: Json) -> list[str]:
    rows = {
        "this model": report["test"],
        "this model, as trained": report["trained_graph"],
        "before calibration": report["uncalibrated"],
        "baseline: counts": report["floor"],
        "baseline: trees": report["trees_floor"],
    }
    if report["oracle_auc"] is not None:
        rows["oracle: the true probabilities"] = {"auc": report["oracle_auc"]}
    measured = {name: metrics for name, metrics in rows.items() if metrics}
    shown = [
        metric
        for metric in METRICS
        if any(metrics.get(metric) is not None for metrics in measured.values())
    ]
    cells = (
        [name, *(_number(metrics.get(metric), METRICS[metric][1]) for metric in shown)]
        for name, metrics in measured.items()
    )
    return [
        "## Quality",
        "",
        *_table(["", *(METRICS[metric][0] for metric in shown)], cells),
        "",
        "GAUC per slate is the mean AUC of the slates with both labels; `bought before` and `new` compare its",
        "positives that are, and are not, in the history with all negatives of the slate. PCOC: predicted over",
        "observed clicks.",
        "",
    ]


def _chosen(chosen: Json) -> list[str]:
    """What was kept and why: each method's held-out log loss, and its gain over the best simpler method."""
    held_out = "users that were not fitted"
    if chosen["is_later"]:
        held_out = "the later half of validation, under fits on other users of the earlier half"
    reason = "The recipe names the method."
    if chosen["gains"]:
        reason = "A method is kept if its gain is above two standard errors."
    losses, gains = chosen["held_out"], chosen["gains"]
    rows = ([name, f"{losses[name]:.6f}", *_gain(gains.get(name))] for name in losses)
    applied = f"**{chosen['kind']}**"
    if chosen["kept"] is not None:
        applied += f", fitted on all {chosen['targets']:,} targets of validation"
    return [
        f"Applied by the service: {applied}. "
        f"Chosen by the log loss of {chosen['judged']:,} targets of {held_out}. {reason}",
        "",
        *_table(["method", "log loss, held out", "gain", "standard error", "kept"], rows),
    ]


def _gain(gain: Json | None) -> list[str]:
    if gain is None:
        return ["", "", ""]
    error = "" if gain["error"] is None else f"{gain['error']:.6f}"
    return [
        f"{gain['log_loss']:+.6f} over {gain['over']}",
        error,
        "yes" if gain["is_kept"] else "no",
    ]


def _calibration(report: Json) -> list[str]:
    lines = ["## Calibration", ""]
    chosen = report["calibration"]
    if chosen is None:
        lines.append("Nothing was fitted: scores are the model's own.")
    else:
        lines += _chosen(chosen)
    lines += [
        "",
        "Predicted against observed, by quantile of the prediction, after calibration:",
        "",
    ]
    rows = (
        [
            f"{row['from']:.1%} to {row['to']:.1%}",
            f"{row['targets']:,}",
            f"{row['positives']:,.0f}",
            _rate(row["predicted"]),
            _rate(row["observed"]),
            f"{row['predicted'] / row['observed']:.3f}" if row["observed"] else "",
        ]
        for row in report["reliability"]
    )
    headings = ["quantile", "targets", "positives", "predicted", "observed", "PCOC"]
    return [*lines, *_table(headings, rows), "", f"![reliability]({RELIABILITY})", ""]


def _groups(report: Json) -> list[str]:
    lines = ["## By groups of targets", ""]
    lines += ["A group of one label has no AUC: ask why. One of few targets has none either.", ""]
    cuts = {**report["cuts"], "number of events in the history": report["by_history"]}
    for name, groups in cuts.items():
        has_slates = any(group["slate_auc"] is not None for group in groups.values())
        headings = ["group", "targets", "positives", "share", "AUC", *["GAUC"] * has_slates]
        rows = (
            [
                label,
                f"{group['targets']:,}",
                f"{group['positives']:,}",
                f"{group['share']:.3%}",
                _number(group["auc"], 4),
                *[_number(group["slate_auc"], 4)] * has_slates,
            ]
            for label, group in groups.items()
        )
        lines += [f"### {name[0].upper()}{name[1:]}", "", *_table(headings, rows), ""]
    return lines


def _records(report: Json) -> list[str]:
    if not report["stored"]:
        return []
    rows = (
        [
            dtype,
            f"{each['bytes']:,}",
            f"{each['largest_bytes']:,}",
            f"{each['auc']:.4f}",
            f"{each['log_loss']:.5f}",
        ]
        for dtype, each in report["stored"].items()
    )
    lines = [
        "## Records",
        "",
        "Bytes of the users' records, mean and largest, and quality of scores from records of each type, on a part of "
        "the test:",
        "",
    ]
    return [*lines, *_table(["type", "bytes", "largest", "AUC", "log loss"], rows)]


def draw_reliability(report: Json, path: Path) -> None:
    """Observed against predicted rates on logarithmic axes; the diagonal is a calibrated model."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # here: evaluation runs without it
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    drawn = [row for row in report["reliability"] if row["observed"] > 0]
    predicted = [max(row["predicted"], LOWEST) for row in drawn]
    observed = [row["observed"] for row in drawn]
    if drawn:
        ends = [min(predicted + observed), max(predicted + observed)]
        axes.plot(ends, ends, color="grey", linestyle=":", label="calibrated")
    axes.plot(predicted, observed, "o-", label="this model")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("predicted rate")
    axes.set_ylabel("observed rate")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


def _rate(value: float) -> str:
    """In percent, with four significant digits: rates of whole pools are small."""
    return f"{100 * value:.4g}%"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [
        "| " + " | ".join(headings) + " |",
        "|" + " --- |" * len(headings),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]
