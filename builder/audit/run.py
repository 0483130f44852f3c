"""The audit of a log under a recipe: every rule on sampled slates of each part, and the checks of the log."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from builder.audit.checks import POPULARITY, VALUES, Check, allowed_checks, log_checks
from builder.audit.finding import Finding, make_finding, with_reasons
from builder.audit.report import Audit
from builder.audit.rules import Rule, make_rules, match_keys
from builder.audit.slate_checks import (
    CONSTANT,
    DUPLICATES,
    HISTORIES,
    ConstantCheck,
    HistoryCheck,
    duplicate_checks,
)
from builder.audit.tally import Tally
from builder.audit.view import Ints, view_of
from builder.dataset.batches import BatchSource, Part, Slates
from builder.dataset.parts import batch_source, part_slates
from builder.errors import StepError
from builder.ingest.events import Events
from builder.progress import Progress, silent
from builder.recipe.audit import Allowed
from builder.recipe.recipe import Recipe
from models.contract.errors import did_you_mean

PARTS: tuple[Part, ...] = ("train", "validate", "test")
SLATES = 4_000
"""Sampled slates of each part. With 1,500 baskets of the promotions task the interval of a rule that covers a tenth of
the candidates, none of them positive, is too wide to fail the rule."""
BATCH_SLATES, MOST_SLATES = 32, 256
"""Slates at once; up to so many where they are of one user, whose targets belong together."""
SEED = 2
EVERYTHING = Rule("all", ("targets",), lambda view: np.zeros(len(view), np.int64))
LEAST = 0.001
"""Groups below this share of all targets and of all positives are summed up in one line of their rule."""
CHECKS = (DUPLICATES, HISTORIES, POPULARITY, VALUES, CONSTANT)


def audit(
    events: Events,
    recipe: Recipe,
    parts: Sequence[Part] = PARTS,
    slates: int = SLATES,
    progress: Progress = silent,
) -> Audit:
    """Audit a log.

    Args:
        events: the ingested log.
        recipe: draws its negatives, and allows rules.
        parts: parts to look at.
        slates: most slates to sample in each part.
        progress: called after every batch.

    Raises:
        StepError: the recipe allows a rule that does not exist for this log.
    """
    rules = make_rules(events)
    reasons = _reasons(recipe.audit.allow, rules)
    found = {part: part_slates(events, recipe, part) for part in parts}
    chosen = {part: _sample(some, slates) for part, some in found.items()}
    total, done = sum(len(some) for some in chosen.values()), 0
    findings: list[Finding] = []
    checks: list[Check] = [*log_checks(events), *duplicate_checks(events, found)]
    for part in parts:
        look = PartAudit(events, rules, part)
        source = batch_source(events, recipe, part)
        for rows in _batches(found[part], chosen[part]):
            look.add(source, found[part], rows)
            done += len(rows)
            progress(done, total, part)
        findings += look.findings()
        checks += look.checks()
    sampled = {str(part): len(some) for part, some in chosen.items()}
    return Audit(
        recipe.name, sampled, with_reasons(findings, reasons), allowed_checks(checks, reasons)
    )


class PartAudit:
    """Sums of one part.

    Args:
        events: the log.
        rules: the rules to sum up.
        part: name of the part.
    """

    def __init__(self, events: Events, rules: Sequence[Rule], part: Part) -> None:
        self._part, self._rules = part, (EVERYTHING, *rules)
        self._keys = list(match_keys(events).values())
        self._tallies = [Tally(len(rule.groups)) for rule in self._rules]
        self._histories, self._constant = HistoryCheck(events), ConstantCheck(events.num_users)
        self._rng = np.random.default_rng(SEED)

    def add(self, source: BatchSource, slates: Slates, chosen: Ints) -> None:
        """Add slates. All chosen slates of a user must come together.

        Args:
            source: makes the batch.
            slates: all slates of the part.
            chosen: indices of slates.
        """
        if (
            source.has_pools
        ):  # sampled candidates are too few to see a rule of which a thousandth is positive
            batch, targets = source.whole(slates, chosen)
        else:
            batch, targets = source.batch(slates, chosen, self._rng)
        self._histories.add(slates.at(chosen), targets)
        view = view_of(batch, targets, self._keys)
        self._constant.add(view)
        for rule, tally in zip(self._rules, self._tallies, strict=True):
            tally.add(view, rule.answer(view))

    def checks(self) -> list[Check]:
        """Checks of the part's slates."""
        return [self._histories.result(self._part), self._constant.result(self._part)]

    def findings(self) -> list[Finding]:
        """Findings on every group that holds targets."""
        everything, *tallies = self._tallies
        effect = everything.design_effect()
        lines: list[Finding] = []
        for rule, tally in zip(self._rules[1:], tallies, strict=True):
            lines += self._of_rule(rule, tally, everything, effect)
        return lines

    def _of_rule(
        self, rule: Rule, tally: Tally, everything: Tally, effect: float
    ) -> Iterator[Finding]:
        total, positives = everything.weight[0], everything.clicked[0]
        support = tally.weight / max(total, 1e-12)
        covers = tally.clicked / max(positives, 1e-12)
        is_large = (support >= LEAST) | (covers >= LEAST)
        large = np.flatnonzero(is_large & (tally.targets > 0))
        small = np.flatnonzero(~is_large & (tally.targets > 0))
        if len(small) > 1:
            tally = tally.joined(small)
            support, covers = (np.append(x, x[small].sum()) for x in (support, covers))
            names, places = [*rule.groups, f"{len(small):,} rarer values"], [*large.tolist(), -1]
        else:
            names, places = [*rule.groups], [*large.tolist(), *small.tolist()]
        for place in places:
            yield make_finding(
                (self._part, rule.name, names[place], rule.within_of(names[place])),
                (int(tally.targets[place]), int(tally.positives[place])),
                tally.share(place, effect),
                (float(support[place]), float(covers[place]), float(positives / max(total, 1e-12))),
            )


def _reasons(allow: Sequence[Allowed], rules: Sequence[Rule]) -> Mapping[str, str]:
    """Allowed rule, or "rule: group" -> reason."""
    known = [*(rule.name for rule in rules), *CHECKS]
    for place, allowed in enumerate(allow):
        if not any(allowed.rule == name or allowed.rule.startswith(f"{name}: ") for name in known):
            hint = did_you_mean(allowed.rule, known)
            raise StepError(
                f"audit.allow[{place}].rule: got {allowed.rule!r}, expected one of: {', '.join(known)}{hint}"
            )
    return {allowed.rule: allowed.reason for allowed in allow}


def _sample(slates: Slates, most: int) -> Ints:
    """Indices of slates, drawn without regard to their labels, rising: slates of a user stay together."""
    count = len(slates)
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(SEED).choice(count, most, replace=False))


def _batches(slates: Slates, chosen: Ints) -> Iterator[Ints]:
    """Runs of some `BATCH_SLATES` slates that end between users: a tally needs a user's targets together.

    A user of more than `MOST_SLATES` slates counts as several.
    """
    begin = 0
    users = slates.user[chosen]
    while begin < len(chosen):
        end = min(begin + BATCH_SLATES, len(chosen))
        last = min(begin + MOST_SLATES, len(chosen))
        while end < last and users[end] == users[end - 1]:
            end += 1
        yield chosen[begin:end]
        begin = end
