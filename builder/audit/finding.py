"""Findings: what each group of a rule tells about labels, and the verdict on it."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from builder.audit.tally import Share

SUPPORT = 0.01
"""A group counts if it holds this share of all targets, or of all targets of its class: of a thousand candidates one is
bought, so a rule that finds all purchases holds for a thousandth of the candidates."""
REST = 0.01
"""A group is of one class if the other class is at most this much as frequent in it as among all targets. Relative to
all targets, since 99 % negatives say nothing where 99.9 % of all candidates are negatives."""
REST_BOUND = 0.1
"""And if the 95 % interval's pessimistic end is at most this: small groups are of one class by chance. With half of all
targets positive, 73 of 73 pass this bound; a limit of 1 % here would need 765, more than small logs have."""

Verdict = Literal["fails", "allowed", "follows", "unsure", "passes"]
ORDER: tuple[Verdict, ...] = ("fails", "allowed", "follows", "unsure", "passes")


@dataclass(frozen=True)
class Finding:
    """One group of a rule in a part.

    Attributes:
        part: "train", "validate" or "test".
        rule: name of the rule.
        group: its answer.
        within: the group of another rule that holds all these targets, "rule: group"; empty for none.
        targets: number of targets.
        positives: number of positives among them.
        share: share of positives among the targets, weighted where targets are sampled.
        low: lower end of its 95 % interval (Wilson, clustered by user).
        high: upper end.
        support: share of all targets.
        covers: share of all positives.
        base: share of positives among all targets of the part.
        verdict: "fails": it gives labels away; "allowed": it does, and the recipe allows it; "follows": it does, as
            another group does that holds it; "unsure": of one class, but too few targets to tell; "passes".
        reason: why the recipe allows it.
    """

    part: str
    rule: str
    group: str
    within: str
    targets: int
    positives: int
    share: float
    low: float
    high: float
    support: float
    covers: float
    base: float
    verdict: Verdict = "passes"
    reason: str = ""

    @property
    def name(self) -> str:
        """Rule and group."""
        return f"{self.rule}: {self.group}"

    @property
    def is_positive(self) -> bool:
        """Whether positives are more frequent here than among all targets."""
        return self.share >= self.base

    @property
    def rest(self) -> float:
        """How frequent the rarer class is, relative to all targets: 0 is one class, 1 tells nothing."""
        return self._relative(self.share, self.share)

    @property
    def suspicion(self) -> float:
        """Share of the rarer class that the group certainly rules out, from 0 to 1."""
        return max(0.0, 1.0 - self._relative(self.low, self.high))

    @property
    def counts(self) -> bool:
        """Whether the group is large enough to matter."""
        of_class = self.covers
        if not self.is_positive:
            negatives = 1.0 - self.base
            of_class = self.support * (1.0 - self.share) / negatives if negatives else 0.0
        return self.targets > 0 and max(self.support, of_class) >= SUPPORT

    def _relative(self, low: float, high: float) -> float:
        """Frequency of the rarer class relative to all targets, from an end of the interval of the share."""
        if math.isnan(self.share):
            return 1.0
        if self.is_positive:
            return (1.0 - low) / (1.0 - self.base) if self.base < 1 else 1.0
        return high / self.base

    def judged(self) -> "Finding":
        """The finding with its own verdict: "fails", "unsure" or "passes"."""
        if not self.counts or self.rest > REST:
            return self
        bound = self._relative(self.low, self.high)
        return replace(self, verdict="fails" if bound <= REST_BOUND else "unsure")


def make_finding(
    names: tuple[str, str, str, str],
    sums: tuple[int, int],
    share: Share,
    sizes: tuple[float, float, float],
) -> Finding:
    """A finding with its own verdict.

    Args:
        names: part, rule, group, within.
        sums: numbers of targets and positives.
        share: share of positives.
        sizes: support, covers and base.
    """
    shares = (share.value, share.low, share.high)
    return Finding(*names, *sums, *shares, *sizes).judged()


def with_reasons(findings: Iterable[Finding], reasons: Mapping[str, str]) -> list[Finding]:
    """Findings after the recipe's exceptions: failures that it allows, and failures that follow from others.

    Args:
        findings: with their own verdicts.
        reasons: allowed rule, or "rule: group" -> reason.
    """
    judged = [_allowed(finding, reasons) for finding in findings]
    tell = {
        (finding.part, finding.name): finding
        for finding in judged
        if finding.verdict in ("fails", "allowed")
    }
    return [_following(finding, tell) for finding in judged]


def _allowed(finding: Finding, reasons: Mapping[str, str]) -> Finding:
    reason = reasons.get(finding.name, reasons.get(finding.rule))
    if finding.verdict != "fails" or reason is None:
        return finding
    return replace(finding, verdict="allowed", reason=reason)


def _following(finding: Finding, tell: Mapping[tuple[str, str], Finding]) -> Finding:
    holder = tell.get((finding.part, finding.within))
    if holder is None or finding.verdict not in ("fails", "unsure"):
        return finding
    return replace(finding, verdict="follows", reason=holder.reason)


def by_suspicion(findings: Iterable[Finding]) -> list[Finding]:
    """Findings in the order in which a person should read them: verdict, size, suspicion."""
    return sorted(
        findings,
        key=lambda finding: (ORDER.index(finding.verdict), not finding.counts, -finding.suspicion),
    )


def shown(findings: Sequence[Finding], rows: int) -> list[Finding]:
    """The most suspicious findings: all that do not pass, and others up to `rows`."""
    ordered = by_suspicion(findings)
    notable = sum(finding.verdict != "passes" for finding in ordered)
    return ordered[: max(rows, notable)]
