"""The rules of the chaos runs: what breaks them, and what does not."""

from dataclasses import replace

import pytest

from loadtest.chaos.outcome import Outcome
from loadtest.chaos.verdict import Downtime, Evidence, Fault, conclude
from tests.loadtest.chaos.examples import GOOD, HIT, with_outcome


def broken(evidence: Evidence) -> str:
    return "; ".join(conclude(evidence).broken)


def test_a_calm_run_breaks_nothing() -> None:
    figures = conclude(GOOD)
    assert (figures.requests, figures.lost, figures.codes) == (100, 0, {"200": 100})
    assert figures.broken == []


@pytest.mark.parametrize(
    ("outcome", "text"),
    [
        (replace(HIT, status=0, failure="hung"), "1 requests lost, the first: hung"),
        (replace(HIT, status=500), "status 500 for 1 good requests"),
        (replace(HIT, status=400), "status 400 for 1 good requests"),
        (replace(HIT, problem="wrong: [1]"), "1 answers are wrong"),
        (replace(HIT, problem="mixed: a is b"), "1 answers mix generations"),
        (replace(HIT, generation="g2"), "1 answers mix generations"),
        (replace(HIT, generation="g3"), "1 answers mix generations"),
        (replace(HIT, source="miss"), "1 answers are miss without a fault that explains it"),
        (replace(HIT, problem="form: no reason"), "1 answers are form"),
    ],
)
def test_a_broken_rule_is_named(outcome: Outcome, text: str) -> None:
    assert text in broken(with_outcome(outcome))


@pytest.mark.parametrize(
    "outcome",
    [
        replace(HIT, status=429),
        replace(HIT, status=503, source="", generation=""),
        replace(HIT, source="miss", is_known=False),
        replace(HIT, source="unavailable"),
    ],
)
def test_rejections_and_rare_late_answers_break_no_rule(outcome: Outcome) -> None:
    assert broken(with_outcome(outcome)) == ""


@pytest.mark.parametrize(
    ("sent_s", "failure", "is_kill", "is_lost"),
    [
        (9.0, "closed", True, True),  # ended before the kill
        (9.95, "closed", True, False),
        (9.5, "closed", False, True),  # in flight when it was told to stop: must be answered
        (9.95, "closed", False, False),
        (10.5, "refused", False, False),
        (13.0, "refused", True, True),
        (10.5, "hung", True, True),
    ],
)
def test_only_a_process_that_is_down_excuses(
    sent_s: float, failure: str, is_kill: bool, is_lost: bool
) -> None:
    outcome = Outcome(sent_s, sent_s + 0.6, failure=failure)
    figures = conclude(with_outcome(outcome, downtimes=[Downtime(10.0, 12.0, is_kill)]))
    assert (figures.lost, figures.excused) == ((1, 0) if is_lost else (0, 1))


def test_a_fault_without_effect_fails() -> None:
    corrupt = replace(GOOD, sources=frozenset({"corrupt"}), required=frozenset({"corrupt"}))
    assert broken(corrupt) == "no answer was corrupt: the fault had no effect"
    required = replace(HIT, source="corrupt")
    assert broken(replace(corrupt, outcomes=[*GOOD.outcomes, required])) == ""


def test_recovery_is_counted_from_the_end_of_a_fault() -> None:
    faults = [Fault("killed", 1.0, 3.0, 3.5), Fault("paused", 4.0, 5.0, None), Fault("x", 1, 2, 60)]
    figures = conclude(replace(GOOD, faults=faults))
    assert figures.recovery_s == [0.5, 58]
    assert figures.broken == ["no hit after paused", "58.0 s until the first hit after x"]
