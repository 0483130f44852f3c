"""How well new items are scored, as Markdown and JSON: means over seeds with 95% intervals, paired by user."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from builder.evaluate.intervals import Interval, difference, interval
from builder.experiments.new_items.measure import ARMS, TEST_SLATES, Outcome
from builder.experiments.report.markdown import markdown_table, write_report

METRICS = {"auc": 4, "slate_gauc": 4, "log_loss": 6}
"""Metric -> decimal places."""
NOTES = (
    "Targets are the candidates of test slates whose item is new: the log has no event of it before the test days.",
    "Both rows score the same targets with the same states. `unknown row`: an unknown candidate. `prototype`: by its",
    "item fields (docs/concepts/new-items.md). AUC compares new items with new items only, over all users; slate GAUC",
    "within slates. PCOC is the mean prediction over the share of positives; neither is calibrated.",
    "",
    "Mean over seeds ± half of the 95% interval, over users and seeds; differences are paired by user and seed.",
)


def write_new_items(
    name: str, outcomes: Mapping[int, Outcome], command: str, out: Path
) -> list[Path]:
    """Write table and numbers; return their paths.

    Args:
        name: of the recipe.
        outcomes: seed -> a training's.
        command: the command line that made it.
        out: folder, made if absent.
    """
    plain = {
        "command": command,
        "reports": {seed: outcome.reports for seed, outcome in outcomes.items()},
        "metrics": {arm: _as_json(_own(outcomes, arm)) for arm in ARMS},
        "difference": _as_json(gains(outcomes)),
    }
    return write_report(out, "new-items", _to_markdown(name, outcomes, command), plain)


def gains(outcomes: Mapping[int, Outcome]) -> dict[str, Interval | None]:
    """Metric -> that of prototypes less that of the unknown row."""
    unknown, prototype = (
        {seed: one.samples[arm] for seed, one in outcomes.items()} for arm in ARMS
    )
    return {metric: difference(prototype, unknown, metric) for metric in METRICS}


def _own(outcomes: Mapping[int, Outcome], arm: str) -> dict[str, Interval | None]:
    every = [one.samples[arm] for one in outcomes.values()]
    return {metric: interval(every, metric) for metric in METRICS}


def _as_json(found: Mapping[str, Interval | None]) -> dict[str, object]:
    return {metric: one and asdict(one) for metric, one in found.items()}


def _to_markdown(name: str, outcomes: Mapping[int, Outcome], command: str) -> str:
    first = next(iter(outcomes.values()))
    report = first.reports[ARMS[0]]
    rows = [[arm, *_cells(_own(outcomes, arm)), _pcoc(outcomes, arm)] for arm in ARMS]
    rows.append(["**difference**", *_cells(gains(outcomes), sign="+"), ""])
    headings = ["scored by", "AUC", "slate GAUC", "log loss", "PCOC"]
    facts = (
        f"{len(outcomes)} seeds, up to {TEST_SLATES:,} test slates; {report['slates']:,} have a new candidate: "
        f"{report['targets']:,} targets, {report['positives']:,} of them positive, of {first.items:,} items. "
        f"{first.prototypes:,} prototypes."
    )
    shares = markdown_table(
        ["fields of the prototype", "share of targets"],
        [[str(size), f"{share:.1%}"] for size, share in first.matched.items()],
    )
    lines = [f"# {name}: new items", "", f"Made by `{command}`.", "", *NOTES, "", facts, ""]
    return "\n".join([*lines, *markdown_table(headings, rows), "", *shares]) + "\n"


def _cells(found: Mapping[str, Interval | None], sign: str = "") -> list[str]:
    return [_cell(found[metric], places, sign) for metric, places in METRICS.items()]


def _cell(one: Interval | None, places: int, sign: str) -> str:
    return "" if one is None else f"{one.mean:{sign}.{places}f} ± {one.half:.{places}f}"


def _pcoc(outcomes: Mapping[int, Outcome], arm: str) -> str:
    values = [one.reports[arm]["pcoc"] for one in outcomes.values()]
    return f"{sum(values) / len(values):.2f}"
