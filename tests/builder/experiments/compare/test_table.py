"""What is made of a comparison's trainings: intervals, paired differences, the table, the plots."""

import io
import json
import math
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from builder.evaluate.intervals import interval
from builder.evaluate.slate_evaluation import Vectors
from builder.experiments.compare.cost import Cost, Costs, cost_key
from builder.experiments.compare.run import write_comparison
from builder.experiments.compare.table import Comparison, Row, SweepRows, estimate
from builder.experiments.compare.text import table_cells, to_json, to_markdown
from builder.experiments.tables import comparison_table
from builder.recipe.models import Family, ModelChoice

CUT = "age of the latest event with the same item"
FLOOR = {"auc": 0.65, "gauc": 0.6, "log_loss": 0.6, "pcoc": 1.1}


def outcome(seed: int, auc: float, validation: float = 0.7, trained: float | None = None) -> Any:
    test = {"auc": auc, "gauc": auc, "log_loss": 0.5, "pcoc": 1.0, "targets": 1_234}
    groups = {
        "never": {"auc": auc - 0.1, "targets": 1_000, "share": 0.25},
        "1 to 8 days": {"auc": auc, "targets": 234, "share": 0.5},
        "over 91 days": {"auc": None, "targets": 7, "share": 1.0},
    }
    return {
        "seed": seed,
        "test": test,
        "validation": {"auc": validation},
        "seconds": 10 * (seed + 1),
        "trained_graph": None if trained is None else {**test, "auc": trained, "log_loss": 0.4},
        "cuts": {CUT: groups},
        "by_history": {"0-99": {"auc": auc, "targets": 1_234, "share": 0.3}},
        "oracle_auc": None,
        "history": [{}],
    }


def trials(*rates: float) -> list[Any]:
    return [{"learning_rate": rate, "history": []} for rate in rates]


def row(label: str, family: Family, aucs: list[float], **config: Any) -> Row:
    """A variant with these AUCs for seeds 0, 1, …"""
    found = [outcome(seed, auc) for seed, auc in enumerate(aucs)]
    return Row(label, family, ModelChoice("din", config), 0.01, found, trials(0.001, 0.01, 0.1))


DIN = row("DIN, all", "full", [0.60, 0.65, 0.68])
SIM = row("SIM", "two-stage", [0.70, 0.80, 0.75], heads=2)


def comparison(*rows: Row, sweeps: tuple[SweepRows, ...] = ()) -> Comparison:
    floors = {"counts": FLOOR, "trees": {**FLOOR, "auc": 0.66}}
    return Comparison("tiny", rows, sweeps, floors, DIN.label, "Budget.")


def sweep(key: str, *values: Any) -> SweepRows:
    rows = [(value, row("SIM", "two-stage", [0.7, 0.6], **{key: value})) for value in values]
    return SweepRows(f"{key} of SIM", "SIM", key, rows)


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


def test_a_reference_that_is_not_trained_yet_is_no_column() -> None:
    headings, _ = table_cells(comparison(SIM))

    assert [heading for heading in headings if "over" in heading] == [
        "AUC over SIM (best two-stage)"
    ]


def test_table_has_a_row_for_each_variant_and_floor_and_a_cell_for_each_heading() -> None:
    costs = Costs({"cpu": "abacus"}, {cost_key(DIN.model): Cost(1_234, 56.78, 50.0, 60.0, 64)})
    found = comparison(SIM, DIN).with_costs(costs)

    headings, rows = table_cells(found)

    assert {len(cells) for cells in rows} == {len(headings)}
    sim, din, counts, trees = (dict(zip(headings, cells, strict=True)) for cells in rows)
    assert sim["AUC"] == "0.7500 ± 0.1242"
    assert (sim["AUC over DIN, all"], din["AUC over DIN, all"]) == ("0.1067 ± 0.1004", "")
    assert din["AUC over SIM (best two-stage)"] == "-0.1067 ± 0.1004"
    assert (sim["seeds"], sim["train s"], sim["learning rate"]) == ("3", "20", "0.01 (of 3)")
    assert (din["bytes/user"], din["µs/candidate"]) == ("1,234", "56.78")
    assert (sim["bytes/user"], sim["µs/candidate"]) == ("", "")
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
    assert lines[-2:] == [
        f"| {heads} | 0.6500 ± 0.6353 |  | 0.500000 ± 0.000000 | 2 |  |  |" for heads in (2, 4)
    ]
    tables = text.split("\n\n")
    for table in (part.splitlines() for part in tables if part.startswith("|")):
        assert len({line.count("|") for line in table}) == 1


def of_slates(seed: int, quality: float) -> Vectors:
    """Metrics of 300 slates of 100 users; those of one seed share most of their noise."""
    rng = np.random.default_rng(0)
    gauc = quality + 0.1 * rng.normal(size=300)
    gauc += 0.01 * np.random.default_rng([seed, 1]).normal(size=300)
    gauc[::3] = np.nan
    return {
        "slate": np.arange(300),
        "user": np.arange(300) % 100,
        "history": np.arange(300),
        "gauc": gauc,
        "log_loss": 0.5 + rng.normal(size=300) / 50,
        "targets": np.full(300, 20),
        "positives": np.full(300, 1),
        "won": np.full(300, quality),
        "lost": np.full(300, 19 * quality),
    }


def with_slates(label: str, family: Family, quality: float, seeds: int = 3) -> Row:
    plain = row(label, family, [quality] * seeds)
    vectors = {seed: of_slates(seed, quality) for seed in range(seeds)}
    outcomes = [
        {
            **found,
            "test": {**found["test"], "slate_gauc": float(np.nanmean(vectors[seed]["gauc"]))},
            "validation": {"auc": 0.7, "gauc": 0.7},
            "reliability": RELIABILITY,
            "best_step": 10,
            "steps": 20,
            "ended": "patience" if seed else "max_steps",
            "history": CURVE,
        }
        for seed, found in enumerate(plain.outcomes)
    ]
    return replace(plain, outcomes=outcomes, vectors=vectors)


RELIABILITY = [
    {"from": 0.0, "to": 0.9, "targets": 900, "positives": 9, "predicted": 0.012, "observed": 0.01},
    {"from": 0.9, "to": 1.0, "targets": 100, "positives": 9, "predicted": 0.08, "observed": 0.09},
]
CURVE = [
    {
        "step": step,
        "train_loss": 1 / step,
        "log_loss": 1 / step,
        "auc": 0.6,
        "gauc": 0.5 + step / 90,
    }
    for step in (5, 10, 20)
]
GOOD, FAIR = with_slates("good", "lrea", 0.8), with_slates("fair", "full", 0.7)
FLOOR_OF_SLATES = of_slates(9, 0.6)


def slate_comparison() -> Comparison:
    floors = {"trees": {**FLOOR, "slate_gauc": float(np.nanmean(FLOOR_OF_SLATES["gauc"]))}}
    return Comparison(
        "pools", [GOOD, FAIR], (), floors, FAIR.label, "Budget.",
        floor_vectors={"trees": FLOOR_OF_SLATES}, history_length=2_000, missing=["slow", "late"],
    )  # fmt: skip


def test_intervals_are_over_users_and_seeds_where_slates_are_kept() -> None:
    alone, paired = GOOD.metric("slate_gauc"), GOOD.over(FAIR, "slate_gauc")

    assert alone is not None
    assert paired is not None
    expected = interval(list(GOOD.vectors.values()), "slate_gauc")
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
    assert replace(comparison, rows=rows).main_metric == "auc"


def test_gauc_per_slate_comes_first_where_it_was_measured() -> None:
    costs = Costs({}, {cost_key(GOOD.model): Cost(32_000, 5.0, 5.0, 5.0, 64)})

    headings, rows = table_cells(slate_comparison().with_costs(costs))

    assert headings[:6] == [
        "model", "family", "GAUC per slate", "GAUC per slate over fair", "AUC over fair", "AUC",
    ]  # fmt: skip
    good = dict(zip(headings, rows[0], strict=True))
    assert good["of raw, L = 2,000"] == "2.00"
    assert good["of raw, 149 events"] == "26.85"
    assert (good["best step"], good["stopped"]) == ("10 of 20", "2 of 3")


def test_rows_are_held_against_the_floors() -> None:
    lines = to_markdown(slate_comparison(), "command").splitlines()

    assert "| model | GAUC per slate less trees | log loss less trees |" in lines
    assert "Not trained to the end, and not shown: slow, late." in lines
    row_of_good = next(line for line in lines if line.startswith("| good | +0.2"))
    assert "±" in row_of_good
    assert (
        "The raw history, 8 bytes an event, has 16,000 bytes at L = 2,000 and 1,192 at the median of the test "
        "slates, 149 events."
    ) in lines


def test_json_has_no_vectors() -> None:
    plain = to_json(slate_comparison(), "command")

    assert len(json.dumps(plain)) < 100_000
    means = plain["rows"][0]["means"]
    assert means["slate_gauc_over_full"]["mean"] == pytest.approx(0.1, abs=1e-6)
    assert means["slate_gauc_over_trees"]["half"] > 0


def test_curves_and_reliability_are_drawn(tmp_path: Path) -> None:
    written = write_comparison(slate_comparison(), "command", tmp_path)

    names = [path.name for path in written]
    assert {"curves.png", "reliability.png"} <= set(names)
    for picture in written[2:]:
        width, height = struct.unpack(">II", picture.read_bytes()[16:24])
        assert width > 400
        assert height > 300


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


def stored(seed: int) -> Any:
    sizes = {"fp32": 400, "fp16": 200, "int8": 100}
    lost = {"fp32": 0.0, "fp16": 0.0, "int8": 0.01 + 0.01 * seed}
    return {
        dtype: {"bytes": size, "auc": 0.7 + 0.1 * seed - lost[dtype], "log_loss": 0.5}
        for dtype, size in sizes.items()
    }


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
    assert "bytes.png" in [path.name for path in written]


def test_rows_are_held_against_those_they_name() -> None:
    taught = replace(SIM, label="taught", against=("SIM", "not trained yet"))
    taught = replace(taught, outcomes=[outcome(0, 0.71), outcome(1, 0.82), outcome(2, 0.78)])

    found = comparison(SIM, taught)

    assert [(row.label, other.label) for row, other in found.pairs()] == [("taught", "SIM")]
    assert "| taught | SIM | +0.02000 ± 0.02484 | +0.000000 ± 0.000000 |" in to_markdown(found, "x")
    (pair,) = to_json(found, "x")["pairs"]
    assert (pair["model"], pair["less"]) == ("taught", "SIM")
    assert pair["auc"]["mean"] == pytest.approx(0.02)
    assert "Held against" not in to_markdown(comparison(SIM), "x")


def test_console_shows_the_main_columns() -> None:
    shown = io.StringIO()

    Console(width=200, file=shown).print(comparison_table(comparison(SIM, DIN)))

    text = shown.getvalue()
    for word in ("AUC over DIN, all", "best two-stage", "µs/candidate", "boosted trees"):
        assert word in text
    assert "PCOC" not in text


def test_everything_is_written(tmp_path: Path) -> None:
    costs = {cost_key(one.model): Cost(1, us, us, us, 64) for one, us in ((DIN, 30.0), (SIM, 20.0))}
    found = comparison(SIM, DIN, sweeps=(sweep("heads", 2, 4), sweep("dropout", 0.0, 0.1)))

    written = write_comparison(found.with_costs(Costs({}, costs)), "command", tmp_path / "new")

    names = ["table.md", "table.json", "auc-cost.png", "bytes.png", "cuts.png", "sweep.png"]
    assert [path.name for path in written] == names
    for picture in written[2:]:
        width, height = struct.unpack(">II", picture.read_bytes()[16:24])
        assert width > height > 400
    plain = json.loads(written[1].read_text())
    assert (plain["full"], plain["best_two_stage"]) == ("DIN, all", "SIM")
    (sim, din), (heads, _) = plain["rows"], plain["sweeps"]
    assert sim["means"]["auc_over_full"]["mean"] == pytest.approx(0.32 / 3)
    assert "auc_over_full" not in din["means"]
    assert sim["cost"]["us_per_candidate"] == 20
    assert "history" not in sim["outcomes"][0]
    assert [line["value"] for line in heads["rows"]] == [2, 4]


def test_without_costs_cuts_and_sweeps_there_are_tables_only(tmp_path: Path) -> None:
    bare = replace(DIN, outcomes=[{**outcome(0, 0.6), "cuts": {CUT: {}}}])

    written = write_comparison(comparison(bare), "command", tmp_path)

    assert [path.name for path in written] == ["table.md", "table.json"]


def test_with_nothing_trained_yet_floors_are_shown(tmp_path: Path) -> None:
    write_comparison(comparison(), "command", tmp_path)

    assert (
        "| floor: boosted trees on counts and ages |  | 0.6600 |"
        in (tmp_path / "table.md").read_text()
    )
