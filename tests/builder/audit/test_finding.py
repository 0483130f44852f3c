"""Verdicts: what fails, what is too small to tell, what is allowed, and what only follows from another group."""

import pytest

from builder.audit.finding import Finding, by_suspicion, make_finding, with_reasons
from builder.audit.tally import Share, wilson

IN_HISTORY = ("test", "item in history", "yes", "")
TWICE = ("test", "times that the item is in history", "2", "item in history: yes")


def finding(
    positives: int,
    targets: int,
    base: float = 0.5,
    support: float = 0.2,
    names: tuple[str, str, str, str] = IN_HISTORY,
) -> Finding:
    share = positives / targets
    ends = wilson(share, float(targets))
    covers = support * share / base
    return make_finding(names, (targets, positives), Share(share, *ends), (support, covers, base))


@pytest.mark.parametrize(
    ("positives", "targets", "base", "verdict"),
    [
        (1000, 1000, 0.5, "fails"),
        (0, 1000, 0.5, "fails"),
        (73, 73, 0.5, "fails"),
        (72, 72, 0.5, "unsure"),
        (996, 1000, 0.5, "fails"),
        (990, 1000, 0.5, "passes"),  # 1 % negatives are 2 % of what all targets have
        (0, 100_000, 0.001, "fails"),
        (0, 10_000, 0.001, "unsure"),
        (5, 100_000, 0.001, "passes"),
        (1000, 1000, 0.9, "fails"),
        (999, 1000, 0.001, "fails"),
    ],
)
def test_one_class_is_relative_to_all_targets(positives, targets, base, verdict) -> None:
    assert finding(positives, targets, base).verdict == verdict


def test_a_group_counts_by_its_share_of_targets_or_of_its_class() -> None:
    assert finding(1000, 1000, support=0.004).verdict == "passes"
    assert finding(0, 100_000, 0.001, support=0.004).verdict == "passes"
    assert finding(500, 500, 0.001, support=0.0005).verdict == "fails"  # half of all positives


def test_suspicion_is_one_where_a_class_is_ruled_out_and_none_where_nothing_is_told() -> None:
    assert finding(100_000, 100_000).suspicion == pytest.approx(1, abs=1e-3)
    assert finding(0, 100_000).suspicion == pytest.approx(1, abs=1e-3)
    assert finding(500, 1000).suspicion == 0
    assert finding(750, 1000).suspicion == pytest.approx(0.44, abs=0.01)


def test_what_lies_within_a_failing_group_follows_from_it() -> None:
    outer, inner = finding(1000, 1000), finding(300, 300, names=TWICE)
    assert inner.verdict == "fails"

    judged = with_reasons([inner, outer], {})
    alone = with_reasons([inner, finding(600, 1000)], {})

    assert [f.verdict for f in judged] == ["follows", "fails"]
    assert [f.verdict for f in alone] == ["fails", "passes"]


@pytest.mark.parametrize("allowed", ["item in history", "item in history: yes"])
def test_an_allowed_rule_takes_what_lies_within_with_it(allowed: str) -> None:
    judged = with_reasons([finding(1000, 1000), finding(300, 300, names=TWICE)], {allowed: "why"})

    assert [(f.verdict, f.reason) for f in judged] == [("allowed", "why"), ("follows", "why")]


def test_an_exception_for_another_answer_allows_nothing() -> None:
    judged = with_reasons([finding(1000, 1000)], {"item in history: no": "why"})

    assert judged[0].verdict == "fails"


def test_failures_come_first_then_the_most_suspicious_large_groups() -> None:
    groups = [
        finding(500, 1000),
        finding(900, 1000, support=0.001),
        finding(800, 1000),
        finding(1000, 1000),
    ]

    assert by_suspicion(groups) == [groups[3], groups[2], groups[0], groups[1]]
