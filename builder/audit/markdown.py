"""audit.md: the whole table, for people and for reviews."""

from builder.audit.checks import Check
from builder.audit.finding import Finding, by_suspicion
from builder.audit.report import Audit, failure_text, percent

HEADINGS = (
    "part", "rule", "targets", "of all targets", "of all positives", "positive", "95 %", "all targets", "suspicion", "",
)  # fmt: skip


def to_markdown(audit: Audit) -> str:
    """The audit as Markdown: failures, exceptions, checks, then every group by suspicion."""
    looked = ", ".join(f"{count:,} of {part}" for part, count in audit.slates.items())
    lines = [f"# Leak audit of {audit.recipe}", "", f"Slates looked at: {looked}.", ""]
    lines += [f"**Fails.**\n\n```\n{failure_text(audit)}\n```\n"] if audit.failures else []
    lines += [
        f"- Allowed: {found.name} ({found.part}). {found.reason}" for found in audit.exceptions
    ]
    lines += ["", "## Checks", "", _row(("check", "part", "found", "of", "verdict"))]
    lines.append(_row(["---"] * 5))
    lines += [_check_row(check) for check in audit.checks]
    lines += ["", "## Rules", "", _row(HEADINGS), _row(["---"] * len(HEADINGS))]
    lines += [_row(cells(finding)) for finding in by_suspicion(audit.findings)]
    return "\n".join(lines) + "\n"


def cells(finding: Finding) -> tuple[str, ...]:
    """One finding as the texts of a row."""
    return (
        finding.part,
        finding.name,
        f"{finding.targets:,}",
        percent(finding.support),
        percent(finding.covers),
        percent(finding.share),
        f"{percent(finding.low)} to {percent(finding.high)}",
        percent(finding.base),
        f"{finding.suspicion:.2f}",
        _verdict(finding),
    )


def _verdict(finding: Finding) -> str:
    one_class = finding.positives in (0, finding.targets)
    words: list[str] = [finding.verdict] if finding.verdict != "passes" else []
    words += ["one class"] if one_class else []
    words += ["small"] if not finding.counts else []
    return ", ".join(words)


def _check_row(check: Check) -> str:
    name = f"{check.name}: {check.text}"
    return _row(
        (name, check.part or "all", f"{check.found:,}", f"{check.checked:,}", check.verdict)
    )


def _row(texts: "tuple[str, ...] | list[str]") -> str:
    return f"| {' | '.join(text.replace('|', '/') for text in texts)} |"
