"""The `[audit]` section of a recipe: rules of the leak audit that may give the label away, each with its reason."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Allowed:
    """A rule that may tell labels, and why that is accepted."""

    rule: str
    """Name of the rule as the audit's table shows it, such as "item in history", or one value of it, such as
    "context hour: 13". Rules that only divide its targets further, such as counts, are allowed with it."""
    reason: str
    """Why the build goes on in spite of it: a sentence, which is printed beside the metrics."""


@dataclass(frozen=True)
class AuditRule:
    """What the leak audit accepts. A rule that tells the labels of 1 % of the targets fails the build otherwise."""

    allow: tuple[Allowed, ...] = ()
    """Rules that may tell labels. Their reasons stand in the report, the artifact's manifest and comparisons."""


def exception_lines(rule: AuditRule) -> list[str]:
    """What stands beside every metric of a recipe that allows rules; empty where it allows none."""
    return [
        f"Audit exception: the rule {allowed.rule!r} may tell labels. {allowed.reason}"
        for allowed in rule.allow
    ]


def audit_problems(allow: Sequence[Allowed]) -> list[str]:
    """Rules that are allowed twice or without a reason, one sentence each. The audit itself refuses unknown rules."""
    problems = []
    for place, allowed in enumerate(allow):
        if not allowed.rule.strip():
            problems.append(f"audit.allow[{place}].rule: got an empty name, expected a rule's name")
        if len(allowed.reason.split()) < 3:
            problems.append(
                f"audit.allow[{place}].reason: got {allowed.reason!r}, expected a sentence that says why"
            )
        if allowed.rule in [earlier.rule for earlier in allow[:place]]:
            problems.append(
                f"audit.allow[{place}].rule: got {allowed.rule!r} twice, expected each rule once"
            )
    return problems
