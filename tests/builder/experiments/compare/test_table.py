"""What is made of a comparison's trainings: intervals, paired differences, the tables."""

import io
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from builder.evaluate.intervals import interval, resample
from builder.experiments.compare.cost import Cost, Costs, cost_key
from builder.experiments.compare.run import write_comparison
from builder.experiments.compare.table import estimate
from builder.experiments.compare.text import table_cells, to_json, to_markdown
from builder.experiments.tables import comparison_table
from tests.builder.experiments.compare.compared import (
    CUT,
    DIN,
    FAIR,
    GOOD,
    SIM,
    comparison,
    outcome,
    row,
    slate_comparison,
    stored,
    sweep,
    trials,
    with_slates,
)


def test_interval_is_students() -> None:
    """Mean 7/3, variance (16 + 1 + 25) / 9 / 2 = 7/3, t(97.5%, 2 degrees) = 4.302653."""
    half = 4.302653 * math.sqrt(7 / 3) / math.sqrt(3)

    assert str(estimate([1.0, 2.0, 4.0])) == f"{7 / 3:.4f} ± {half:.4f}" == "2.3333 ± 3.7946"


def test_one_seed_has_no_interval_and_equal_seeds_an_empty_one() -> None:
    assert str(estimate([0.75])) == "0.7500"
    assert str(estimate([0.75, 0.75])) == "0.7500 ± 0.0000"
    assert estimate([]) is None


def test_difference_is_paired_by_seed() -> None:
    """Differences 0.10, 0.15, 0.07: mean 0.1067, deviation 0.0404, times 4.302653 / √3. Unpaired it were wider."""
    assert str(SIM.over(DIN)) == "0.1067 ± 0.1004"
    assert SIM.over(SIM) is None
    assert SIM.over(None) is None


def test_difference_is_of_the_seeds_that_both_have() -> None:
    cut_off = replace(SIM, outcomes=[outcome(2, 0.78), outcome(3, 0.1)])

    assert str(cut_off.over(DIN)) == "0.1000"


def test_gap_is_served_less_trained_and_nothing_where_they_are_one() -> None:
    found = replace(SIM, outcomes=[outcome(0, 0.70, trained=0.72), outcome(1, 0.71, trained=0.73)])

    assert str(found.gap("auc")) == "-0.0200 ± 0.0000"
    assert str(found.gap("log_loss")) == "0.1000 ± 0.0000"
    assert SIM.gap("auc") is None


def test_best_two_stage_is_the_best_by_validation_not_by_test() -> None:
    lucky = replace(SIM, label="lucky", outcomes=[outcome(0, 0.9, validation=0.6)])
    validated = replace(SIM, label="validated", outcomes=[outcome(0, 0.8, validation=0.65)])
    other = replace(DIN, outcomes=[outcome(0, 0.7, validation=0.9)])

    assert comparison(lucky, validated, other).two_stage is validated
    assert comparison(other).two_stage is None


def test_the_reference_and_the_winner_are_the_best_of_their_families_with_all_events() -> None:
    better = replace(DIN, label="better", outcomes=[outcome(0, 0.6, validation=0.8)])
    short = replace(DIN, label="short", length=8, outcomes=[outcome(0, 0.9, validation=0.9)])
    slots = replace(DIN, label="slots", family="lrea")
    less = replace(DIN, label="less", family="ablation", outcomes=[outcome(0, 0.6, 0.95)])

    found = comparison(DIN, better, short, slots, less)

    assert (found.full, found.winner, found.ablation) == (better, slots, [less])
    assert less not in found.models
    assert [found.best(family) for family in ("none", "pooled")] == [None, None]


def test_a_reference_that_is_not_trained_yet_is_no_column() -> None:
    headings, _ = table_cells(comparison(SIM))

    assert [heading for heading in headings if "less SIM" in heading] == [
        "AUC less SIM", "log loss less SIM",
    ]  # fmt: skip


def test_table_has_a_row_for_each_variant_and_floor_and_a_cell_for_each_heading() -> None:
    costs = Costs({"cpu": "abacus"}, {cost_key(DIN.model): Cost(1_234, 56.78, 50.0, 60.0, 64)})
    found = comparison(SIM, DIN).with_costs(costs)

    headings, rows = table_cells(found)

    assert {len(cells) for cells in rows} == {len(headings)}
    sim, din, counts, trees = (dict(zip(headings, cells, strict=True)) for cells in rows)
    assert sim["AUC"] == "0.7500 ± 0.1242"
    assert (sim["AUC less DIN, all"], din["AUC less DIN, all"]) == ("+0.1067 ± 0.1004", "")
    assert din["AUC less SIM"] == "-0.1067 ± 0.1004"
    assert (sim["seeds"], sim["train s"], sim["learning rate"]) == ("3", "20", "0.01 (of 3)")
    assert (din["bytes, fp32"], din["bytes, fp16"], din["µs/candidate"]) == (
        "2,000", "1,000", "56.78",
    )  # fmt: skip
    assert (sim["validation"], sim["µs/candidate"]) == ("0.7000 (0.7000 to 0.7000)", "")
    assert counts == dict.fromkeys(headings, "") | {
        "model": "floor: logistic regression on counts",
        "AUC": "0.6500",
        "GAUC per user": "0.6000",
        "log loss": "0.600000",
        "PCOC": "1.100",
    }
    assert trees["AUC"] == "0.6600"


def test_the_table_says_on_which_machine_the_costs_were_timed() -> None:
    machine = {
        "cpu": "abacus",
        "cores": "2",
        "runtime": "onnxruntime 1",
        "revision": "r",
        "date": "2026-11-27",
        "load average at start": "0.1",
    }
    plain = comparison(SIM, DIN)
    timed = plain.with_costs(Costs(machine, {cost_key(DIN.model): Cost(1, 2.0, 1.0, 3.0, 64)}))

    assert "abacus (2 cores" in " ".join(to_markdown(timed, "command").split()).replace("\n", " ")
    assert "µs/candidate" not in to_markdown(plain, "command")


@pytest.mark.parametrize(
    ("rates", "shown"),
    [
        ((), "0.01"),
        ((0.01, 0.1), "0.01 (of 2, the lowest)"),
        ((0.001, 0.01), "0.01 (of 2, the highest)"),
    ],
)
def test_a_rate_at_an_end_of_the_grid_is_said_to_be(rates: tuple[float, ...], shown: str) -> None:
    headings, rows = table_cells(comparison(replace(DIN, trials=trials(*rates))))

    assert rows[0][headings.index("learning rate")] == shown


def test_oracle_is_the_last_row_where_the_log_has_one() -> None:
    known = replace(DIN, outcomes=[{**outcome(0, 0.6), "oracle_auc": 0.9}])

    _, rows = table_cells(comparison(known))

    assert rows[-1][:3] == ["oracle: the true probabilities", "", "0.9000"]


def test_text_says_what_made_it_and_every_table_is_whole() -> None:
    text = to_markdown(comparison(SIM, DIN, sweeps=(sweep("heads", 2, 4),)), "python -m builder x")

    lines = text.splitlines()
    assert "Made by `python -m builder x`." in lines
    assert "1,234 test targets. Budget." in lines
    assert (
        "| model | never (1,000; 25.00%) | 1 to 8 days (234; 50.00%) | over 91 days (7; 100.00%) |"
        in lines
    )
    assert "| SIM | 0.6500 | 0.7500 |  |" in lines
    # Seeds of SIM less the sweep's: 0.7 − 0.7 and 0.6 − 0.8: mean −0.1, half 12.7062 · 0.1.
    row_of = "0.6500 ± 0.6353 | 0.500000 ± 0.000000 | -0.10000 ± 1.27062 | +0.000000 ± 0.000000"
    assert [line for line in lines if line.startswith(("| 2 |", "| 4 |"))] == [
        f"| {heads} | {row_of} | 2 | 2,000 | 1,000 |  |" for heads in (2, 4)
    ]
    tables = text.split("\n\n")
    for table in (part.splitlines() for part in tables if part.startswith("|")):
        assert len({line.count("|") for line in table}) == 1


def test_intervals_are_over_users_and_seeds_where_slates_are_kept() -> None:
    alone, paired = GOOD.metric("slate_gauc"), GOOD.over(FAIR, "slate_gauc")

    assert alone is not None
    assert paired is not None
    expected = interval([resample(vectors) for vectors in GOOD.vectors.values()], "slate_gauc")
    assert expected is not None
    assert alone.mean == pytest.approx(expected.mean)
    assert alone.half == expected.half
    assert paired.mean == pytest.approx(0.1, abs=1e-6)
    assert alone.half is not None
    assert paired.half is not None
    assert paired.half < alone.half / 5  # both saw the same users
    without = replace(GOOD, vectors={}).metric("slate_gauc")
    assert without is not None
    assert without.half != alone.half


def test_one_seed_has_an_interval_over_users() -> None:
    one = with_slates("one", "lrea", 0.8, seeds=1).metric("slate_gauc")

    assert one is not None
    assert one.half is not None
    assert one.half > 0.005


def test_auc_comes_first_where_slates_are_too_small_to_validate_by() -> None:
    """A few of 10,000 impressions of one item each may share a second: their GAUC is of a handful of slates."""
    comparison = slate_comparison()
    validation = {"auc": 0.7, "gauc": None}
    rows = [
        replace(row, outcomes=[{**each, "validation": validation} for each in row.outcomes])
        for row in comparison.rows
    ]
    assert comparison.main_metric == "slate_gauc"
    small = replace(comparison, rows=rows)
    assert small.main_metric == "auc"
    lines = to_markdown(small, "command").splitlines()
    assert "| model | AUC less trees | GAUC per user less trees | log loss less trees |" in lines


def test_ndcg_is_compared_where_slates_are_whole() -> None:
    comparison = slate_comparison()
    whole = [
        replace(
            row,
            outcomes=[
                {**each, "test": {**each["test"], "slate_ndcg": 0.3}} for each in row.outcomes
            ],
        )
        for row in comparison.rows
    ]
    lines = to_markdown(replace(comparison, rows=whole), "command").splitlines()
    assert any(
        line.startswith("| model | GAUC per slate less trees") and "NDCG@10 less" in line
        for line in lines
    )


def test_gauc_per_slate_comes_first_where_it_was_measured() -> None:
    headings, rows = table_cells(slate_comparison())

    assert headings[:6] == [
        "model", "family", "GAUC per slate", "GAUC per slate less fair", "AUC less fair",
        "log loss less fair",
    ]  # fmt: skip
    good = dict(zip(headings, rows[0], strict=True))
    assert (good["bytes, fp16, largest"], good["of raw, mean"]) == ("2,000", "0.12")
    assert good["of raw, L = 2,000"] == "0.12"
    assert (good["best step"], good["stopped"]) == ("10 of 20", "2 of 3")


def test_json_has_no_vectors() -> None:
    plain = to_json(slate_comparison(), "command")

    assert len(json.dumps(plain)) < 100_000
    means = plain["rows"][0]["means"]
    assert means["slate_gauc_over_full"]["mean"] == pytest.approx(0.1, abs=1e-6)
    assert means["slate_gauc_over_trees"]["half"] > 0


def test_a_row_with_groups_of_its_own_is_not_shifted(tmp_path: Path) -> None:
    """A variant with a shorter history may lack a group, or have another."""
    short = replace(SIM, outcomes=[outcome(0, 0.7)])
    cuts = short.outcomes[0]["cuts"][CUT]
    del cuts["never"]
    short.outcomes[0]["by_history"] = {"0+": {"auc": 0.6, "targets": 9, "share": 0.5}}

    lines = to_markdown(comparison(DIN, short), "command").splitlines()
    write_comparison(comparison(DIN, short), "command", tmp_path)

    assert "| SIM |  | 0.7000 |  |" in lines
    assert "| SIM |  |" in lines


def test_smaller_records_are_shown_with_what_they_lose(tmp_path: Path) -> None:
    """0.01 and 0.02 lost: mean 0.015, half 12.7062 · 0.005."""
    found = [{**outcome(seed, 0.7 + seed / 10), "stored": stored(seed)} for seed in (0, 1)]
    measured = replace(SIM, outcomes=found)
    without = replace(DIN, outcomes=[{**one, "stored": {**stored(0)}} for one in found])
    for one in without.outcomes:
        del one["stored"]["int8"]

    text = to_markdown(comparison(measured, without, row("old", "none", [0.5])), "command")

    zero = "+0.00000 ± 0.00000"
    assert f"| SIM | 0.7500 ± 0.6353 | 400 | 200 | {zero} | 100 | -0.01500 ± 0.06353 |" in text
    assert f"| DIN, all | 0.7500 ± 0.6353 | 400 | 200 | {zero} |  |  |" in text
    assert "| old | 0.5000 | 4" not in text
    written = write_comparison(comparison(measured, without), "command", tmp_path)
    assert "front.png" in [path.name for path in written]


def test_console_shows_the_main_columns() -> None:
    shown = io.StringIO()

    Console(width=200, file=shown).print(comparison_table(comparison(SIM, DIN)))

    text = shown.getvalue()
    for word in ("AUC less DIN, all", "AUC less SIM", "µs/candidate", "boosted trees"):
        assert word in text
    assert "PCOC" not in text
