"""The tables that `absorb audit` prints: the most suspicious groups first."""

from rich import box
from rich.markup import escape
from rich.table import Table

from builder.audit.checks import Check
from builder.audit.finding import Finding, Verdict, by_suspicion
from builder.audit.report import Audit, percent

COLOURS: dict[Verdict, str] = {
    "fails": "bold red",
    "allowed": "yellow",
    "follows": "yellow",
    "unsure": "magenta",
    "passes": "",
}
WIDE = 120
"""Columns of a terminal that shows the numbers of targets and the intervals as well."""


def findings_table(audit: Audit, rows: int, width: int) -> Table:
    """Groups of targets by rule, the most suspicious first.

    Args:
        audit: what was found.
        rows: largest number of rows; groups that fail are always shown.
        width: columns of the terminal.
    """
    ordered = by_suspicion(audit.findings)
    rows = max(rows, sum(finding.verdict == "fails" for finding in ordered))
    table = _table(f"Leak audit of {audit.recipe}", _caption(audit, len(ordered) - rows))
    table.add_column("part")
    table.add_column("rule", overflow="fold", ratio=1)
    names = ("of all", "positive", "95 %", "targets", "suspicion")
    for name in names if width >= WIDE else (names[0], names[1], names[4]):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for finding in ordered[:rows]:
        table.add_row(*_cells(finding, width), style=COLOURS[finding.verdict])
    return table


def checks_table(audit: Audit) -> Table:
    """The checks of the log."""
    table = _table("Checks of the log", "")
    table.add_column("check", ratio=1)
    table.add_column("part")
    for name in ("found", "of"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for check in audit.checks:
        table.add_row(*_check_cells(check), style=COLOURS[check.verdict])
    return table


def _table(title: str, caption: str) -> Table:
    return Table(
        title=title,
        caption=caption or None,
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        expand=True,
    )


def _cells(finding: Finding, width: int) -> tuple[str, ...]:
    verdict = finding.verdict if finding.counts else "small"
    names = (finding.part, escape(finding.name))
    shares = (percent(finding.support), percent(finding.share))
    suspicion = f"{finding.suspicion:.2f}"
    if width < WIDE:
        return (*names, *shares, suspicion, verdict)
    interval = f"{percent(finding.low)} to {percent(finding.high)}"
    return (*names, *shares, interval, f"{finding.targets:,}", suspicion, verdict)


def _check_cells(check: Check) -> tuple[str, ...]:
    return (
        check.name,
        check.part or "all",
        f"{check.found:,}",
        f"{check.checked:,}",
        check.verdict,
    )


def _caption(audit: Audit, left: int) -> str:
    bases = {finding.part: finding.base for finding in audit.findings}
    parts = [
        f"{part} {percent(base)} ({audit.slates[part]:,} slates)" for part, base in bases.items()
    ]
    more = f" {left:,} more groups are in audit.md." if left > 0 else ""
    return (
        f"Positive among all targets: {', '.join(parts)}. Suspicion: share of the rarer class that the rule certainly "
        f"rules out; 0 tells nothing, 1 gives labels away.{more}"
    )
