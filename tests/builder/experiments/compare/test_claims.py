"""What a comparison claims: verdicts on rows, ablations and sweeps."""

from dataclasses import replace

import pytest

from builder.experiments.compare.columns import verdict
from builder.experiments.compare.sweep_text import is_start
from builder.experiments.compare.table import Estimate, SweepRows
from builder.experiments.compare.text import table_cells, to_json, to_markdown
from tests.builder.experiments.compare.compared import (
    DIN,
    FAIR,
    GOOD,
    SIM,
    comparison,
    outcome,
    row,
    slate_comparison,
    with_slates,
)


def test_rows_are_held_against_the_floors() -> None:
    lines = to_markdown(slate_comparison(), "command").splitlines()

    assert "| model | GAUC per slate less trees | AUC less trees | log loss less trees |" in lines
    assert "Not trained to the end, and not shown: slow, late." in lines
    row_of_good = next(line for line in lines if line.startswith("| good | +0.2"))
    assert "±" in row_of_good
    assert (
        "The raw history, 8 bytes an event, has 16,000 bytes at L = 2,000 and 1,192 at the median of the test "
        "slates, 149 events."
    ) in lines


def test_claims_are_judged_by_whether_the_interval_holds_nothing() -> None:
    """Good (.8) is held against the trees (.6), the best full attention (.7) and a two-stage model (.8, the same)."""
    level = with_slates("level", "two-stage", 0.8)
    counts = with_slates("counts only", "none", 0.75)
    found = replace(slate_comparison(), rows=[GOOD, FAIR, level, counts])
    floors = {"trees": {**found.floors["trees"], "log_loss": 0.5}}
    found = replace(found, floors=floors)

    lines = to_markdown(found, "command").splitlines()

    assert "### The winner, good, against the others" in lines
    assert "- Against the two-stage models, GAUC per slate: level with level." in lines
    assert "- Clears the trees in GAUC per slate: yes, log loss: **no**." in lines
    start = lines.index("### The winner, good, against the others")
    rows = {line.split(" | ")[0]: line for line in lines[start : start + 10]}
    assert ", ahead |" in rows["| floor: boosted trees on counts and ages"]
    assert ", level |" in rows["| level"]
    assert ", ahead |" in rows["| fair (best `full`)"]
    assert ", ahead |" in rows["| counts only (best `none`)"]
    none = lines.index("### Attention to events against none: less counts only")
    assert ", behind |" in next(line for line in lines[none:] if line.startswith("| fair"))


@pytest.mark.parametrize(
    ("loss", "words"), [(0.0004, "0.0005 is excluded"), (0.0006, "0.0005 is **not** excluded")]
)
def test_a_loss_of_auc_is_excluded_by_the_lower_end(loss: float, words: str) -> None:
    slots = row("slots", "lrea", [auc - loss for auc in (0.60, 0.65, 0.68)])

    assert words in to_markdown(comparison(slots, DIN), "command")


def test_without_slots_there_are_no_claims() -> None:
    assert "What the comparison is for" not in to_markdown(comparison(SIM, DIN), "command")


def test_an_ablation_is_held_against_the_winner_in_a_table_of_its_own() -> None:
    winner = row("slots", "lrea", [0.70, 0.80, 0.75])
    less = row("without ages", "ablation", [0.69, 0.79, 0.74])

    lines = to_markdown(comparison(DIN, winner, less), "command").splitlines()

    start = lines.index("## Ablation of slots")
    table = [line for line in lines[start:] if line.startswith(("| slots", "| without ages"))][:2]
    assert "| 0.500000 ± 0.000000 |  |  |" in table[0]
    assert "| -0.01000 ± 0.00000 |" in table[1]
    headings, rows = table_cells(comparison(DIN, winner, less))
    assert "without ages" not in [cells[0] for cells in rows]
    assert headings


def test_a_sweep_is_held_against_the_variants_own_value() -> None:
    own, other = replace(SIM), row("SIM", "two-stage", [0.69, 0.78, 0.71], heads=4)
    swept = SweepRows("heads of SIM", "SIM", "heads", [(2, own), (4, other)])
    found = comparison(SIM, DIN, sweeps=(swept,))

    lines = to_markdown(found, "command").splitlines()
    first, second = [line for line in lines if line.startswith(("| 2 |", "| 4 |"))]

    assert first.count("|  |") == 2
    assert "| -0.02333 ± 0.03795 |" in second
    values = to_json(found, "command")["sweeps"][0]["rows"]
    assert values[0]["less_own"] == {}
    assert values[1]["less_own"]["auc"]["mean"] == pytest.approx(-0.07 / 3)


def test_rows_are_held_against_those_they_name() -> None:
    taught = replace(SIM, label="taught", against=("SIM", "not trained yet"))
    taught = replace(taught, outcomes=[outcome(0, 0.71), outcome(1, 0.82), outcome(2, 0.78)])

    found = comparison(SIM, taught)

    assert [(row.label, other.label) for row, other in found.pairs()] == [("taught", "SIM")]
    lines = to_markdown(found, "x").splitlines()
    shown = next(line for line in lines if line.startswith("| taught | SIM |"))
    assert shown.startswith("| taught | SIM | +0.02000 ± 0.02484 |")
    assert shown.endswith("| +0.000000 ± 0.000000 |")
    (pair,) = to_json(found, "x")["pairs"]
    assert (pair["model"], pair["less"]) == ("taught", "SIM")
    assert pair["auc"]["mean"] == pytest.approx(0.02)
    assert "Paired differences" not in to_markdown(comparison(SIM), "x")


@pytest.mark.parametrize(
    ("metric", "mean", "half", "expected"),
    [
        ("auc", 0.02, 0.01, "ahead"),
        ("log_loss", 0.02, 0.01, "behind"),
        ("auc", 0.02, 0.03, "level"),
        ("auc", 0.02, None, ""),
        ("auc", 0.02, float("nan"), ""),
        ("auc", 0.02, float("inf"), ""),
    ],
)
def test_a_verdict_needs_a_finite_interval(
    metric: str, mean: float, half: float | None, expected: str
) -> None:
    assert verdict(metric, Estimate(mean, half)) == expected


def test_a_sweeps_start_is_known_by_the_seeds_that_both_have() -> None:
    one = replace(SIM, outcomes=SIM.outcomes[:1])
    later = replace(SIM, outcomes=SIM.outcomes[1:])

    assert is_start(SIM, SIM)
    assert is_start(SIM, one)
    assert is_start(one, SIM)
    assert not is_start(later, one)
    assert not is_start(replace(SIM, outcomes=[]), SIM)
    assert not is_start(row("SIM", "two-stage", [0.70, 0.80, 0.74], heads=4), SIM)
