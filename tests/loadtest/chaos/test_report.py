from dataclasses import replace

from loadtest.chaos.report import markdown, total
from loadtest.chaos.verdict import Evidence, conclude
from tests.loadtest.chaos.examples import GOOD, HIT, with_outcome


def broken(evidence: Evidence) -> str:
    return "; ".join(conclude(evidence).broken)


def test_the_page_has_a_row_for_each_scenario_and_their_sum() -> None:
    played = [
        conclude(GOOD),
        conclude(with_outcome(replace(HIT, status=500), abuses={"bomb: 413": 2})),
    ]
    page = markdown(played, "make chaos")
    assert "| calm | 100 | 0 | 200: 100 |" in page
    assert "| all | 201 | 0 | 200: 200, 500: 1 |" in page
    assert "bomb: 413 (2)" in page
    assert total(played).broken == ["calm failed"]
