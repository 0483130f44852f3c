"""Comparisons: every variant with every seed, once; means with Student's intervals."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from builder.compare import run_comparison
from builder.compare_table import Floor, Row, mean_and_interval, to_markdown
from builder.recipe import ModelChoice, Variant
from builder.report import floor
from builder.steps import Build
from models.errors import RecipeError

SMALL: dict[str, Any] = {"mlp": [8], "item_dim": 4, "hidden": 4, "heads": 2}
VARIANTS = (
    Variant("no long history", ModelChoice("din", {**SMALL, "long": False})),
    Variant("LREA r = 4/8", ModelChoice("lrea", {**SMALL, "rank": 4, "slots": "hash"})),
)


def report(auc: float, seconds: float = 1.0) -> dict[str, Any]:
    test = {"auc": auc, "gauc": auc, "log_loss": 0.5, "pcoc": 1.0}
    return {"test": test, "seconds": seconds}


@pytest.fixture
def comparison(finished: Build) -> Build:
    """Over the finished build's log, which comparing only reads."""
    rule = replace(finished.recipe.train, steps=2, validate_every=2, slates_per_step=8)
    return replace(finished, recipe=replace(finished.recipe, train=rule, variant=VARIANTS))


def test_interval_is_students() -> None:
    """Mean 7/3, variance (16 + 1 + 25) / 9 / 2 = 7/3, t(97.5%, 2 degrees) = 4.302653."""
    half = 4.302653 * math.sqrt(7 / 3) / math.sqrt(3)

    assert mean_and_interval([1.0, 2.0, 4.0]) == f"{7 / 3:.4f} ± {half:.4f}" == "2.3333 ± 3.7946"


def test_one_seed_has_no_interval_and_equal_seeds_an_empty_one() -> None:
    assert mean_and_interval([0.75]) == "0.7500"
    assert mean_and_interval([0.75, 0.75]) == "0.7500 ± 0.0000"


def test_table_says_what_made_it() -> None:
    row = Row("DIN", [report(0.7, seconds=10), report(0.8, seconds=90), report(0.75, seconds=20)])
    lowest = Floor({"auc": 0.65, "gauc": 0.6, "log_loss": 0.6, "pcoc": 1.1})

    lines = to_markdown([row], lowest, "python -m builder compare x.toml --seeds 3").splitlines()

    assert lines[0].startswith("Made by `python -m builder compare x.toml --seeds 3`.")
    metrics = "0.7500 ± 0.1242 | 0.5000 ± 0.0000 | 1.0000 ± 0.0000"
    assert lines[-2] == f"| DIN | 0.7500 ± 0.1242 |  | {metrics} | 3 | 20 |"
    assert lines[-1] == (
        "| floor: logistic regression on counts | 0.6500 |  | 0.6000 | 0.6000 | 1.1000 |  |  |"
    )
    assert len({line.count("|") for line in lines[2:]}) == 1


def test_gain_over_the_first_row_is_paired_by_seed() -> None:
    """Differences 0.10, 0.15, 0.07: mean 0.1067, deviation 0.0404, times 4.302653 / √3. Unpaired it were wider."""
    first = Row("without", [report(0.60), report(0.65), report(0.68)])
    row = Row("with", [report(0.70), report(0.80), report(0.75)])

    assert row.cells(first)[1] == "0.1067 ± 0.1004"


def test_a_recipe_without_variants_is_refused(finished: Build, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"variant: missing, `compare` needs \[\[variant\]\]"):
        run_comparison(finished, 1, 1, tmp_path, lambda done, total, note="": None)


def test_finished_trainings_are_not_done_again(comparison: Build, tmp_path: Path) -> None:
    told: list[tuple[int, int, str]] = []

    def compare() -> tuple[list[Row], Floor]:
        told.clear()
        return run_comparison(
            comparison, 2, 1, tmp_path, lambda done, total, note="": told.append((done, total, note))
        )  # fmt: skip

    rows, lowest = compare()
    assert [line[:2] for line in told] == [(done, 4) for done in range(5)]
    assert [(row.label, len(row.reports)) for row in rows] == [(v.label, 2) for v in VARIANTS]
    one, other = rows[1].values("auc")
    assert one != other  # two seeds
    assert lowest.metrics["auc"] == floor(comparison.events(), comparison.recipe).auc

    table = json.loads((tmp_path / "table.json").read_text())
    assert [row["label"] for row in table["rows"]] == [v.label for v in VARIANTS]
    assert mean_and_interval([one, other]) in (tmp_path / "table.md").read_text()

    cut_off = next(tmp_path.glob("LREA*-seed1-*.json"))
    cut_off.unlink()
    again, _ = compare()
    assert [line[:2] for line in told] == [(0, 1), (1, 1)]
    assert told[1][2].startswith("LREA r = 4/8, seed 1: AUC 0.")
    assert cut_off.exists()
    assert again[1].values("auc") == [one, other]  # the seed decides all

    compare()
    assert told == [(0, 0, "")]
