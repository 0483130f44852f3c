"""The gate's checks: each compares a number of the new model with a limit of the recipe, and says what failed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from builder.gate.metrics import Difference, Measured
from builder.gate.rankings import Rankings
from builder.gate.scored import Scored
from builder.recipe.gate import GateRule

SAME = 1e-9
"""Spread of a slate's log odds below which its scores count as equal."""


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        name: what is checked.
        passed: whether the new model may be published as far as this check goes.
        text: the measured numbers and the limit, in words.
        value: the number that is compared with the limit; None where nothing was measured.
        limit: largest value that passes; None where the check has no number.
        low: lower end of the value's 95% interval; None without one.
        high: its upper end.
    """

    name: str
    passed: bool
    text: str
    value: float | None = None
    limit: float | None = None
    low: float | None = None
    high: float | None = None


def audit_check(leaks: Sequence[str], allowed: Sequence[str]) -> Check:
    """The leak audit of the log that the new model was trained on."""
    if leaks:
        return Check("leak audit", False, f"rules that give labels away: {', '.join(leaks)}")
    exceptions = f"; allowed by the recipe: {', '.join(allowed)}" if allowed else ""
    return Check("leak audit", True, f"no rule gives labels away{exceptions}")


def score_checks(scored: Scored) -> Iterator[Check]:
    """What every model must pass, the first one of a name too: scores are numbers, and not all the same."""
    odds = scored.log_odds[-1]
    broken = int((~np.isfinite(odds)).sum())
    text = f"{broken:,} of {odds.size:,} scores of the new model are not finite"
    yield Check("finite scores", broken == 0, text, float(broken), 0.0)
    if broken:
        return
    order = np.argsort(scored.slate, kind="stable")
    first = np.unique(scored.slate[order], return_index=True)[1]
    high, low = (part.reduceat(odds[order], first) for part in (np.maximum, np.minimum))
    size = np.diff(np.append(first, len(odds)))
    flat = int(((high - low < SAME) & (size > 1)).sum())
    rankable = int((size > 1).sum())
    text = f"{flat:,} of {rankable:,} slates of two targets or more have equal scores throughout"
    yield Check(
        "different scores", not rankable or flat <= rankable / 2, text, float(flat), rankable / 2
    )


def margin_checks(measured: Measured, rule: GateRule) -> Iterator[Check]:
    """The new model is not worse than the serving one by more than each margin."""
    old, new = measured.old, measured.new
    if old is None:
        return
    text = f"{new.log_loss:.6f} nats, serving model {old.log_loss:.6f}"
    yield _margin("log loss", measured.log_loss, rule.log_loss, text)
    if old.gauc is not None and new.gauc is not None:
        yield _margin("GAUC", measured.gauc, rule.gauc, f"{new.gauc:.4f}, serving {old.gauc:.4f}")
    else:
        text = "no slate and no user has both labels: there is no GAUC, and it is not compared"
        yield Check("GAUC", True, text)
    text = f"PCOC {new.pcoc:.3f}, serving {old.pcoc:.3f}"
    yield _margin("calibration", measured.calibration, rule.calibration, text)


def _margin(name: str, worse: Difference | None, limit: float, text: str) -> Check:
    if worse is None:
        return Check(name, False, f"{text}: the difference cannot be measured", None, limit)
    interval = f"worse by {worse.value:+.4f} [{worse.low:+.4f}, {worse.high:+.4f}]"
    return Check(
        name, worse.value <= limit, f"{text}: {interval}", worse.value, limit, worse.low, worse.high
    )


def jump_checks(measured: Measured, rule: GateRule) -> Iterator[Check]:
    """The new model is not better than is to be believed. A serving model that knows nothing is no measure of that."""
    old, new = measured.old, measured.new
    if old is None or old.log_loss >= measured.constant_loss:
        return
    fall = (old.log_loss - new.log_loss) / old.log_loss
    text = f"log loss fell by {fall:.1%} of the serving model's; a larger fall than the limit is taken for a leak"
    yield Check("plausible log loss", fall <= rule.log_loss_gain, text, fall, rule.log_loss_gain)
    if old.gauc is not None and new.gauc is not None:
        rise = new.gauc - old.gauc
        text = (
            f"GAUC rose by {rise:+.4f}; a larger rise than the limit is taken for a leak of labels"
        )
        yield Check("plausible GAUC", rise <= rule.gauc_gain, text, rise, rule.gauc_gain)


def log_check(measured: Measured, reported: float | None, rule: GateRule) -> Iterator[Check]:
    """The newest labels are like those that the serving model was measured on at its own build.

    Args:
        measured: both models.
        reported: the serving model's GAUC in its own report; None if it has none.
        rule: the recipe's.
    """
    if reported is None or measured.new.gauc is None:
        return
    fall = reported - measured.new.gauc
    text = (
        f"GAUC {measured.new.gauc:.4f}, {fall:+.4f} below the {reported:.4f} that the serving model had at its own "
        "build; a larger fall than the limit is taken for damaged labels"
    )
    yield Check("labels as before", fall <= rule.gauc_drop, text, fall, rule.gauc_drop)


def rank_check(rankings: Rankings | None, measured: Measured, rule: GateRule) -> Check:
    """Both models rank requests alike, or the new one is better by more than the interval."""
    if rankings is None:
        return Check("rankings", True, "no request of two candidates: nothing is compared")
    mean, limit = rankings.mean, rule.rank_distance
    text = f"mean rank distance {mean:.3f} over {rankings.requests:,} requests"
    if mean <= limit:
        return Check("rankings", True, text, mean, limit)
    differences = [d for d in (measured.log_loss, measured.gauc) if d is not None]
    is_explained = any(d.is_better for d in differences) and not any(
        d.is_worse for d in differences
    )
    reason = "; the new model is better by more than the interval, which explains it"
    text += reason if is_explained else "; nothing explains it: the new model is not clearly better"
    return Check("rankings", is_explained, text, mean, limit)
