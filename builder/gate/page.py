"""The gate's report for people: `gate.md`, and `gate.png` beside it."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from builder.gate.checks import Check
from builder.gate.metrics import Measured
from builder.gate.rankings import Rankings
from builder.gate.report import PLOT, GateReport

HEADS = {
    "passed": "passed",
    "refused": "REFUSED",
    "first": "passed alone: nothing serves that it could be compared with",
    "same": "passed: this artifact serves already",
    "off": "not asked: the recipe has no gate",
}
LEAK = (
    "Look for a leak: read `audit.md`, and which columns of the log are written after the click, or are new since the "
    "last build."
)
LOG = "Look at the newest days of the log: are its labels joined as on the days before, and are all of them there?"
WORSE = (
    "Look at `report.md` and `checkpoint/curve.png` beside this page: did training end early, is a field empty, did "
    "the ids of the catalogue change? Then `absorb build RECIPE --from ingest`."
)
STEPS = {
    "leak audit": LEAK,
    "plausible log loss": LEAK,
    "plausible GAUC": LEAK,
    "labels as before": LOG,
    "both labels": LOG,
    "finite scores": "Read the training's losses in `checkpoint/curve.png`, then `absorb build RECIPE --from train`.",
    "different scores": WORSE,
    "calibration": (
        "Compare the share of positives of the training days with that of the newest days: after a change of the log, "
        "or a day that is not complete, predicted and observed clicks differ."
    ),
    "same task": "Publish it under another `serve_as`, or restore the log's fields and ids.",
}
"""Check -> what an operator looks at first, if it fails."""
OTHERWISE = WORSE
USERS = (
    "Users are named by the first 12 digits of the SHA-256 of their id: `printf %s USER | sha256sum`. Times are epoch "
    "seconds."
)
FORCE = "absorb build RECIPE --force"


def page_lines(report: GateReport) -> list[str]:
    """The page as lines of Markdown."""
    forced = ", and published with --force" if report.is_forced else ""
    lines = [
        f"# Promotion gate: {report.model}, {HEADS[report.verdict]}{forced}",
        "",
        f"New artifact `{report.new}`; serving artifact {_id(report.old)}.",
        "",
    ]
    if report.note:
        lines += [report.note, ""]
    if report.failures:
        lines += [*_refusal(report), ""]
    if report.checks:
        lines += [
            "| check | verdict | value | limit | measured |",
            "| --- | --- | --- | --- | --- |",
        ]
        lines += [_row(check) for check in report.checks]
        lines.append("")
    if report.measured is not None:
        lines += [*_measured(report.measured), ""]
    if report.rankings is not None:
        lines += [*_rankings(report.rankings), ""]
    if report.measured is not None and report.measured.old is not None:
        lines.append(f"![differences and rank distances]({PLOT})")
    return lines


def _refusal(report: GateReport) -> Iterator[str]:
    """What failed, what serves now, and what to do: for whoever reads the page first."""
    if report.is_forced:
        yield f"**Published with --force: `{report.new}` serves.** `absorb rollback` makes the earlier one serve again."
    else:
        yield f"**What serves stays: {_id(report.old)}.** Nothing was written to the cache; users notice nothing."
    yield ""
    yield "Why:"
    yield ""
    for check in report.failures:
        yield f"- **{check.name}**: {check.text}{_times(check)}."
    yield ""
    yield "What to do:"
    yield ""
    for step in dict.fromkeys(STEPS.get(check.name, OTHERWISE) for check in report.failures):
        yield f"- {step}"
    yield f"- If the new model is right after all: `{FORCE}` publishes it."


def _times(check: Check) -> str:
    if check.value is None or not check.limit:
        return ""
    return f" (limit {check.limit:g}: {check.value / check.limit:.1f} times as much)"


def _id(artifact: str | None) -> str:
    return "none" if artifact is None else f"`{artifact}`"


def _row(check: Check) -> str:
    verdict = "passed" if check.passed else "**failed**"
    return f"| {check.name} | {verdict} | {_number(check.value)} | {_number(check.limit)} | {check.text} |"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _measured(measured: Measured) -> Iterator[str]:
    first, last = (
        datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")
        for at in (measured.first_s, measured.last_s)
    )
    yield (
        f"Compared on {measured.targets:,} targets ({measured.clicks:,} positive) of {measured.users:,} users in "
        f"{measured.slates:,} slates, {first} to {last}. A constant score has a log loss of "
        f"{measured.constant_loss:.6f}. Intervals are 95%, over users, paired."
    )
    yield ""
    yield "| model | log loss | GAUC | PCOC |"
    yield "| --- | --- | --- | --- |"
    for name, quality in (("serving", measured.old), ("new", measured.new)):
        if quality is not None:
            gauc = "" if quality.gauc is None else f"{quality.gauc:.4f}"
            yield f"| {name} | {quality.log_loss:.6f} | {gauc} | {quality.pcoc:.3f} |"


def _rankings(rankings: Rankings) -> Iterator[str]:
    spread = ", ".join(f"p{p} {value:.3f}" for p, value in rankings.percentiles.items())
    yield (
        f"Rank distance over {rankings.requests:,} requests: mean {rankings.mean:.3f}, {spread} (0 the same order, "
        f"about 0.67 random). The first ten share {rankings.top_overlap:.0%}. Most different:"
    )
    yield ""
    for name, distance in rankings.worst:
        yield f"- {name}: {distance:.3f}"
    if any(name.startswith("user ") for name, _ in rankings.worst):
        yield ""
        yield USERS


def draw(report: GateReport, path: Path) -> None:
    """Differences of the metrics with their intervals as shares of the margins, and the rank distances."""
    from matplotlib.backends.backend_agg import (
        FigureCanvasAgg,
    )  # here: the comparison runs without it
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    drawn = [c for c in report.checks if c.value is not None and c.low is not None and c.limit]
    for place, check in enumerate(drawn):
        value, low, high, limit = (
            x or 0.0 for x in (check.value, check.low, check.high, check.limit)
        )
        color = "tab:blue" if check.passed else "tab:red"
        left.plot([low / limit, high / limit], [place, place], color=color)
        left.plot([value / limit], [place], "o", color=color)
    left.axvline(1, color="grey", linestyle=":")
    left.axvline(0, color="lightgrey")
    left.set_yticks(range(len(drawn)), [check.name for check in drawn])
    left.set_ylim(-0.5, max(0.5, len(drawn) - 0.5))
    left.set_xlabel("how much worse than serving, in margins")
    if report.rankings is not None:
        right.hist(report.rankings.distances, bins=40, range=(0, 1))
    right.set_xlabel("rank distance of a request")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
