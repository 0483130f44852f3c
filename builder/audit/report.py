"""The result of an audit: what it found, its summary for reports, its files, and the error that stops a build."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from builder.audit.causes import cause_of
from builder.audit.checks import Check
from builder.audit.finding import Finding, by_suspicion
from builder.errors import LeakError

JSON, MARKDOWN = "audit.json", "audit.md"
SUMMARY_ROWS = 3
LIST = 4
"""Most groups that the error lists for one rule."""


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    Attributes:
        recipe: name of the recipe.
        slates: part -> number of slates looked at.
        findings: every group of every rule in every part.
        checks: checks of the log and of its slates.
    """

    recipe: str
    slates: dict[str, int]
    findings: list[Finding]
    checks: list[Check]

    @property
    def failures(self) -> list[Finding | Check]:
        """Findings and checks that fail, the worst first."""
        failing = [finding for finding in self.findings if finding.verdict == "fails"]
        return [*by_suspicion(failing), *(c for c in self.checks if c.verdict == "fails")]

    @property
    def exceptions(self) -> list[Finding | Check]:
        """Findings and checks that fail and are allowed."""
        allowed: list[Finding | Check] = [f for f in self.findings if f.verdict == "allowed"]
        return [*allowed, *(check for check in self.checks if check.verdict == "allowed")]

    def require_no_leak(self) -> None:
        """Raise if a rule or check fails.

        Raises:
            LeakError: with each rule, its part and share, the likely cause, and the keys that mend or allow it.
        """
        if self.failures:
            names = sorted({_rule(failure) for failure in self.failures})
            raise LeakError(names, failure_text(self))

    def summary(self) -> dict[str, Any]:
        """A few lines for the report and the artifact's manifest, in JSON types."""
        notable = by_suspicion(finding for finding in self.findings if finding.counts)
        return {
            "slates": self.slates,
            "groups": len(self.findings),
            "checks": {f"{c.name} {c.part}".strip(): c.verdict for c in self.checks},
            "allowed": [
                {"rule": x.name, "part": x.part, "share": x.share, "reason": x.reason}
                for x in self.exceptions
            ],
            "most_suspicious": [
                {
                    "rule": f.name,
                    "part": f.part,
                    "share": f.share,
                    "of": f.base,
                    "suspicion": f.suspicion,
                }
                for f in notable[:SUMMARY_ROWS]
            ],
        }

    def save(self, folder: Path) -> None:
        """Write `audit.json` and `audit.md`; the folder must exist."""
        from builder.audit.markdown import to_markdown  # it imports this module

        (folder / JSON).write_text(json.dumps(asdict(self), indent=1))
        (folder / MARKDOWN).write_text(to_markdown(self))

    @classmethod
    def load(cls, folder: Path) -> "Audit":
        """Inverse of `save`."""
        plain = json.loads((folder / JSON).read_text())
        findings = [Finding(**finding) for finding in plain["findings"]]
        checks = [Check(**check) for check in plain["checks"]]
        return cls(plain["recipe"], plain["slates"], findings, checks)


def failure_text(audit: Audit) -> str:
    """The error: rules that fail, in which part, why probably, and what mends them."""
    by_rule: dict[str, list[Finding | Check]] = {}
    for failure in audit.failures:
        by_rule.setdefault(_rule(failure), []).append(failure)
    count = len(by_rule)
    head = f"audit: {count} rule{'s' * (count > 1)} of {audit.recipe} give{'s' * (count == 1)} labels away"
    lines = [f"{head}; metrics of models that can read them mean nothing:"]
    for rule, failures in by_rule.items():
        lines += [f"  - {failure_line(failure)}" for failure in failures[:LIST]]
        if len(failures) > LIST:
            lines.append(f"    and {len(failures) - LIST} more groups of this rule")
        first = failures[0]
        cause, remedy = cause_of(rule, isinstance(first, Check) or first.is_positive)
        lines += [f"    likely cause: {cause}", f"    remedy: {remedy}"]
    names = ", ".join(by_rule)
    lines.append(
        "To go on in spite of it, give a reason in the recipe; it is then printed beside every metric: "
        f'[[audit.allow]] rule = "{next(iter(by_rule))}" reason = "..."'
        + (f" (one table for each of: {names})" if count > 1 else "")
    )
    return "\n".join(lines)


def failure_line(failure: Finding | Check) -> str:
    """One failure in words."""
    if isinstance(failure, Check):
        where = f" ({failure.part})" if failure.part else ""
        return f"{failure.name}{where}: {failure.found:,} of {failure.checked:,} {failure.text}"
    return (
        f"{failure.name} ({failure.part}): {failure.positives:,} of {failure.targets:,} targets are positive "
        f"({percent(failure.share)}, 95 % interval {percent(failure.low)} to {percent(failure.high)}; all targets "
        f"{percent(failure.base)}); it holds for {percent(failure.support)} of the targets and "
        f"{percent(failure.covers)} of the positives"
    )


def percent(share: float) -> str:
    """A share in percent with three significant digits, but no more than four decimals."""
    value = 100 * share
    decimals = 4 if value < 0.01 else 3 if value < 1 else 2 if value < 10 else 1
    return f"{value:.{decimals}f} %"


def _rule(failure: Finding | Check) -> str:
    return failure.name if isinstance(failure, Check) else failure.rule
