"""The table that `absorb audit` prints: the most suspicious groups first."""

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


def findings_table(audit: Audit, rows: int) -> Table:
    """Groups of targets by rule, the most suspicious first.

    Args:
        audit: what was found.
        rows: largest number of rows; groups that fail are always shown.
    """
    ordered = by_suspicion(audit.findings)
    failing = sum(finding.verdict == "fails" for finding in ordered)
    looked = ", ".join(f"{count:,} of {part}" for part, count in audit.slates.items())
    table = Table(
        title=f"Leak audit of {audit.recipe}: slates {looked}",
        caption=_caption(ordered, max(rows, failing)),
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("part")
    table.add_column("rule", overflow="fold")
    for name in ("targets", "of all", "positive", "95 %", "all targets", "suspicion"):
        table.add_column(name, justify="right")
    table.add_column("verdict")
    for finding in ordered[: max(rows, failing)]:
        table.add_row(*_cells(finding), style=COLOURS[finding.verdict])
    return table


def checks_table(audit: Audit) -> Table:
    """The checks of the log."""
    table = Table(title="Checks of the log", title_justify="left")
    table.add_column("check")
    table.add_column("part")
    table.add_column("found", justify="right")
    table.add_column("of", justify="right")
    table.add_column("verdict")
    for check in audit.checks:
        table.add_row(*_check_cells(check), style=COLOURS[check.verdict])
    return table


def _cells(finding: Finding) -> tuple[str, ...]:
    return (
        finding.part,
        escape(finding.name),
        f"{finding.targets:,}",
        percent(finding.support),
        percent(finding.share),
        f"{percent(finding.low)} to {percent(finding.high)}",
        percent(finding.base),
        f"{finding.suspicion:.2f}",
        finding.verdict if finding.counts else "small",
    )


def _check_cells(check: Check) -> tuple[str, ...]:
    return (
        check.name,
        check.part or "all",
        f"{check.found:,}",
        f"{check.checked:,}",
        check.verdict,
    )


def _caption(ordered: list[Finding], rows: int) -> str:
    left = len(ordered) - rows
    more = f" {left:,} more groups are in audit.md." if left > 0 else ""
    return (
        "suspicion: share of the rarer class that the rule certainly rules out; 0 tells nothing, 1 gives labels away."
        + more
    )
