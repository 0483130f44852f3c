"""Two artifacts on the newest days -> a verdict: is the new one good enough to replace the one that serves?"""

from dataclasses import dataclass, replace

import numpy as np

from builder.dataset.parts import part_slates
from builder.dataset.slates import Slates
from builder.errors import OtherTaskError
from builder.gate.checks import (
    Check,
    jump_checks,
    log_check,
    margin_checks,
    rank_check,
    score_checks,
)
from builder.gate.inputs import inputs_of, with_room_for
from builder.gate.metrics import Measured, measure_both
from builder.gate.rankings import Rankings, compare_rankings, newest_requests
from builder.gate.report import GateReport, Verdict
from builder.gate.requests import captured_requests, rank_captured
from builder.gate.scored import Scored, score_targets
from builder.gate.scoring import ArtifactScorer
from builder.ingest.events import Events
from builder.progress import Progress, silent
from builder.recipe.recipe import Recipe
from models.contract.artifact import Artifact
from models.contract.state_spec import RecordDtype


@dataclass(frozen=True)
class Served:
    """An artifact, and the dtype of its records.

    Attributes:
        artifact: the artifact.
        dtype: of the records that it is served from.
    """

    artifact: Artifact
    dtype: RecordDtype = "fp32"


def compare(
    old: Served | None,
    new: Served,
    events: Events,
    recipe: Recipe,
    *,
    slates: Slates | None = None,
    audit: Check | None = None,
    note: str = "",
    progress: Progress = silent,
) -> GateReport:
    """Compare the new model with the one that serves, on the same targets.

    Args:
        old: what serves now; None: the new model is checked alone.
        new: the candidate.
        events: the new log.
        recipe: of the new model: `gate` holds the margins, the other sections how candidates are drawn.
        slates: the newest days; None: the test part of the log.
        audit: what the leak audit of the new log said (`audit_check`); None: it was not asked.
        note: why `old` is None.
        progress: called after every batch.

    Returns:
        The report. A serving model of another task (`inputs_of`) is a refusal.
    """
    ids = (recipe.serve_as, new.artifact.artifact_id, old.artifact.artifact_id if old else None)
    audited = () if audit is None else (audit,)
    try:
        sides = _sides(old, new, events, recipe)
    except OtherTaskError as error:
        return GateReport(*ids, "refused", checks=(*audited, Check("same task", False, str(error))))
    scored = score_targets(
        sides.scorers, sides.events, recipe, slates, recipe.gate.slates, progress
    )
    checks = [*audited, *score_checks(scored), _label_check(scored)]
    if not _is_measurable(scored):
        return GateReport(*ids, "refused", note, tuple(checks))
    # A serving model whose scores are not finite answers nothing better than one score for everything.
    scored = replace(scored, log_odds=np.nan_to_num(scored.log_odds, posinf=0.0, neginf=0.0))
    measured, rankings = measure_both(scored), None
    if old is not None:
        rankings = _rankings(scored, sides, recipe, slates)
        checks += _comparison(old, measured, rankings, recipe)
    verdict: Verdict = "passed" if old is not None else "first"
    if not all(check.passed for check in checks):
        verdict = "refused"
    return GateReport(*ids, verdict, note, tuple(checks), measured, rankings)


@dataclass(frozen=True)
class _Sides:
    """The log with long enough histories, and the scorers of what serves (if anything does) and of the new model."""

    events: Events
    scorers: list[ArtifactScorer]


def _sides(old: Served | None, new: Served, events: Events, recipe: Recipe) -> _Sides:
    served = [one for one in (old, new) if one is not None]
    scorers = [
        ArtifactScorer(
            one.artifact, inputs_of(one.artifact, events), one.dtype, recipe.train.threads
        )
        for one in served
    ]
    return _Sides(with_room_for(events, [one.artifact for one in served]), scorers)


def _is_measurable(scored: Scored) -> bool:
    """Whether metrics exist: the new scores are finite, and both labels occur."""
    return bool(np.isfinite(scored.log_odds[-1]).all()) and _label_check(scored).passed


def _label_check(scored: Scored) -> Check:
    clicks = int(scored.label.sum())
    text = (
        f"{clicks:,} of {len(scored.label):,} compared targets are positive, expected both labels"
    )
    return Check("both labels", 0 < clicks < len(scored.label), text)


def _rankings(
    scored: Scored, sides: _Sides, recipe: Recipe, slates: Slates | None
) -> Rankings | None:
    rule, events = recipe.gate, sides.events
    if not rule.requests:
        return None
    if rule.captured is not None:
        captured = captured_requests(rule.captured, recipe)
        return compare_rankings(rank_captured(sides.scorers, events, captured, rule.requests))
    part = part_slates(events, recipe, "test") if slates is None else slates
    begin_s = np.asarray(events.ts_s)[part.begin]
    return compare_rankings(newest_requests(scored, begin_s, events.user_ids, rule.requests))


def _comparison(
    old: Served, measured: Measured, rankings: Rankings | None, recipe: Recipe
) -> list[Check]:
    rule = recipe.gate
    report = old.artifact.manifest.report.get("test") or {}
    reported = report.get("slate_gauc" if recipe.data.has_pools else "gauc")
    checks = [
        *margin_checks(measured, rule),
        *jump_checks(measured, rule),
        *log_check(measured, reported, rule),
    ]
    if rule.requests:
        checks.append(rank_check(rankings, measured, rule))
    return checks
