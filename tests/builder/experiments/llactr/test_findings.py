"""The llactr command: backbones times arms, improvements paired by seed, and a report with what it takes to read it."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from builder.errors import RecipeError
from builder.experiments.compare.table import Comparison, Row
from builder.experiments.llactr.arms import ARMS, BASE, ENHANCED, label, with_arms
from builder.experiments.llactr.findings import Findings, find
from builder.experiments.llactr.text import write_findings
from builder.recipe.language import LanguageRule
from builder.recipe.models import ModelChoice, Variant
from builder.recipe.recipe import Recipe
from tests.builds import small_recipe

FM = Variant("FM", "none", ModelChoice("fm", {"dim": 4}))
WUKONG = Variant("WuKong", "none", ModelChoice("wukong", {"dim": 4}))
LANGUAGE: dict[str, Any] = {
    "model": "minilm",
    "steps": 2,
    "num_train": 90,
    "num_held_out": 10,
    "losses": [3.0, 1.0],
    "seconds": {"load": 1.0, "forward": 2.0, "encode": 3.0},
    "cosines": {"mean": 0.5},
    "fields": {"item": "the article", "hour": "hour of the day"},
    "accuracy": {
        "chance": 0.5,
        "limit": 0.99,
        "before": {"of_values": 0.6, "by_field": {}},
        "after": {"of_values": 0.9, "by_field": {"item": 0.95}},
    },
}


def recipe() -> Recipe:
    return replace(small_recipe(), variant=(FM, WUKONG), language=LanguageRule(model="minilm"))


def outcome(seed: int, auc: float, seconds: float) -> dict[str, Any]:
    return {
        "seed": seed,
        "seconds": seconds,
        "steps": 10,
        "weight_decay": 1e-5,
        "config": {"fre": 0.1, "fie": 0.3},
        "test": {"auc": auc, "log_loss": 0.5, "targets": 100, "positives": 7},
    }


def findings(aucs: dict[tuple[str, str], list[float]], seconds: float = 1.0) -> Findings:
    """Seeds 0, 1, … of each backbone and arm."""
    variants = {variant.label: variant for variant in with_arms(recipe()).variant}
    rows = [
        Row(
            label(*pair),
            "none",
            variants[label(*pair)].model,
            0.01,
            [
                outcome(seed, auc, seconds * (1.5 if pair[1] == ENHANCED else 1))
                for seed, auc in enumerate(found)
            ],
        )
        for pair, found in aucs.items()
    ]
    comparison = Comparison("tiny", rows, [], {}, "Budget.")
    return find(comparison, [FM.label, WUKONG.label], LANGUAGE)


TWO = {
    ("FM", BASE): [0.6, 0.7],
    ("FM", ENHANCED): [0.62, 0.71],
    ("WuKong", BASE): [0.75, 0.75],
    ("WuKong", ENHANCED): [0.75, 0.8],
    ("WuKong", "random vectors"): [0.74, 0.8],
}


def test_every_backbone_is_trained_in_every_way() -> None:
    found = with_arms(recipe())
    assert [variant.label for variant in found.variant] == [
        label(backbone, arm.name) for backbone in ("FM", "WuKong") for arm in ARMS
    ]
    known = {variant.label: variant for variant in found.variant}
    assert known["FM, base"].vectors is None
    assert known["FM, base"].model == FM.model
    assert known["FM, without SSFT"].vectors == "raw"
    assert "fre" not in known["FM, without FRE"].model.config
    assert "fie" not in known["FM, without FIE"].model.config
    assert known["FM, LLaCTR"].model.config["dim"] == 4


def test_the_released_code_adds_a_constant_to_wukong_alone() -> None:
    known = {variant.label: variant for variant in with_arms(recipe()).variant}
    assert "pairs" not in known["FM, released code"].model.config
    assert known["WuKong, released code"].model.config["pairs"] == "constant"


def test_arms_can_be_chosen_and_the_base_is_always_there() -> None:
    found = with_arms(recipe(), ["random vectors"])
    assert [variant.label for variant in found.variant[:3]] == [
        "FM, base",
        "FM, LLaCTR",
        "FM, random vectors",
    ]


def test_what_is_missing_is_said_at_once() -> None:
    din = Variant("DIN", "full", ModelChoice("din"))
    for wrong, words in (
        (replace(recipe(), variant=()), "variant: missing"),
        (replace(recipe(), language=None), "language: missing"),
        (
            replace(recipe(), variant=(FM, din)),
            r"variant\[1\].model.name: got 'din', expected a field model",
        ),
    ):
        with pytest.raises(RecipeError, match=words):
            with_arms(wrong)


def test_improvements_are_relative_to_chance_and_paired_by_seed() -> None:
    found = findings(TWO)
    improvement = found.improvement("FM", ENHANCED)
    assert improvement is not None
    assert improvement.mean == pytest.approx(100 * (0.2 + 0.05) / 2)
    mean = found.mean_improvement(ENHANCED)
    assert mean is not None
    assert mean.mean == pytest.approx(100 * ((0.2 + 0.0) / 2 + (0.05 + 0.2) / 2) / 2)
    assert mean.half == pytest.approx(12.706 * 100 * 0.025 / 2, rel=1e-3)  # of two seeds


def test_a_lead_is_over_another_arm() -> None:
    found = findings(TWO)
    lead = found.mean_lead(BASE)
    assert lead is not None
    assert lead.mean == pytest.approx(((0.02 + 0.0) / 2 + (0.01 + 0.05) / 2) / 2)
    # An arm that one backbone lacks has no mean of the backbones.
    assert found.mean_lead("random vectors") is None


def test_time_is_per_step_over_the_bases() -> None:
    assert findings(TWO).time_ratio("FM") == pytest.approx(1.5)


def test_the_report_has_what_it_takes_to_read_it(tmp_path: Path) -> None:
    table, numbers, plot = write_findings(findings(TWO), "the command", tmp_path)
    text = table.read_text()
    for words in (
        "Made by `the command`",
        "100 test targets, 7 of them positive",
        "The paper's mean",
        "load 1, forward 2, encode 3",
        "+12.50",
        "0.01 / 1e-05 / 0.1 / 0.3",
        "Loss 3.00 to 1.00",
        "90.0% are nearest to their own field, 60.0% before",
        "| item | the article | 0.95 |",
    ):
        assert words in text
    assert all(
        arm.description in text for arm in ARMS if arm.name in (BASE, ENHANCED, "random vectors")
    )
    assert not re.search("shuffled", text)  # it was not trained
    found = json.loads(numbers.read_text())
    assert found["mean_relaimpr_percent"][ENHANCED]["mean"] == pytest.approx(11.25)
    assert plot.stat().st_size > 1000
