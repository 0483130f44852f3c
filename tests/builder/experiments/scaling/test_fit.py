"""The scaling command: grades and amounts of data become points, with laws through them and the largest foretold."""

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from builder.dataset.batches import Slates
from builder.dataset.parts import part_slates, train_slates
from builder.errors import RecipeError
from builder.experiments.compare.run import run_comparison
from builder.experiments.compare.table import Comparison, Row, SweepRows
from builder.experiments.scaling.fit import TARGETS, WEIGHTS, find_axes, targets_seen
from builder.experiments.scaling.text import write_scaling
from builder.pipeline import Build
from builder.recipe.models import SHARE, ModelChoice, Sweep, Variant
from builder.train.train import num_steps

SMALL: dict[str, Any] = {"mlp": [8], "heads": 2, "length": 8, "block_heads": 1}
GRADES = tuple(
    Variant(f"width {dim}", "full", ModelChoice("suan", {**SMALL, "item_dim": dim}))
    for dim in (12, 4, 8, 16, 20)
)
SHARES = (0.1, 0.25, 0.5, 1.0)


@pytest.fixture
def build(finished: Build) -> Build:
    """Over the finished build's log."""
    rule = replace(finished.recipe.train, steps=40, max_epochs=1.0, slates_per_step=8, patience=0)
    sweep = Sweep("data", GRADES[1].label, SHARE, SHARES)
    recipe = replace(finished.recipe, train=rule, variant=GRADES, sweep=(sweep,))
    return replace(finished, recipe=recipe)


def outcome(seed: int, size: float, steps: int = 1) -> dict[str, Any]:
    test = {"auc": 0.9 - size**-0.5, "log_loss": 0.4 + size**-0.5 + 1e-4 * seed, "targets": 99}
    return {"seed": seed, "test": test, "seconds": 1.0, "steps": steps}


def comparison(build: Build, **of_share: int) -> Comparison:
    """Losses that follow laws of width and of share, two seeds each."""
    rows = [
        Row(
            v.label,
            v.family,
            v.model,
            0.1,
            [outcome(s, v.model.config["item_dim"]) for s in (0, 1)],
        )
        for v in GRADES
    ]
    swept = [
        (share, replace(rows[1], outcomes=[outcome(s, 100 * share, 10_000) for s in (0, 1)]))
        for share in SHARES
    ]
    sweeps = (SweepRows("data", GRADES[1].label, SHARE, swept),)
    return Comparison("tiny", rows, sweeps, {}, "Budget.")


def test_points_rise_in_size_and_the_largest_is_foretold_by_the_others(build: Build) -> None:
    weights, targets = find_axes(comparison(build), build.recipe, build.events())

    assert (weights.name, targets.name) == (WEIGHTS, TARGETS)
    assert [p.label for p in weights.points] == [f"width {d}" for d in (4, 8, 12, 16, 20)]
    assert [p.label for p in targets.points] == ["0.1", "0.25", "0.5", "1"]
    for axis in (weights, targets):
        sizes = [point.size for point in axis.points]
        assert sizes == sorted(sizes)
        for loss in axis.fits.values():
            assert loss.law.r2 > 0.95
            assert loss.exponents is not None
    fit = weights.fits["log loss"]
    assert fit.predicted == pytest.approx(fit.measured.mean, abs=0.02)
    assert targets.fits["log loss"].without_last is None  # three points are too few to foretell


def test_sizes_are_the_blocks_weights(build: Build) -> None:
    """15.75 D² + 2 D·P + 10 D per block (the paper digest's count), for D divisible by 4."""
    weights, _ = find_axes(comparison(build), build.recipe, build.events())
    events = build.events()
    other = 4 * (len(events.schema.item_fields) - 1)
    widths = [dim + other for dim in (4, 8, 12, 16, 20)]
    expected = [2 * (15.75 * D**2 + 2 * D * 4 + 10 * D) for D in widths]
    assert [point.size for point in weights.points] == expected


def test_a_model_without_blocks_is_refused(build: Build) -> None:
    row = Row("plain", "full", ModelChoice("din", {}), 0.1, [outcome(0, 1.0)])
    found = replace(comparison(build), rows=[row])
    with pytest.raises(RecipeError, match="'plain': din has no blocks to count"):
        find_axes(found, build.recipe, build.events())


def test_targets_seen_are_those_of_the_share_or_of_the_steps(build: Build) -> None:
    events, recipe = build.events(), build.recipe
    slates = part_slates(events, recipe, "train")
    all_targets = int((slates.end - slates.begin).sum())
    row = Row("x", "full", GRADES[0].model, 0.1, [outcome(0, 1.0, steps=10_000)])
    assert targets_seen(row, 1.0, recipe, events) == all_targets
    assert targets_seen(row, 0.25, recipe, events) == pytest.approx(all_targets / 4, rel=0.1)
    cut_off = replace(row, outcomes=[outcome(0, 1.0, steps=1)])
    seen = targets_seen(cut_off, 1.0, recipe, events)
    assert seen == pytest.approx(all_targets * 8 / len(slates))


def keys(slates: Slates) -> set[tuple[int, int]]:
    return set(zip(slates.user.tolist(), slates.begin.tolist(), strict=True))


def test_a_smaller_share_is_part_of_a_larger_one_and_seeds_differ(build: Build) -> None:
    events = build.events()

    def of(share: float, seed: int = 0) -> set[tuple[int, int]]:
        rule = replace(build.recipe.train, share=share, seed=seed)
        return keys(train_slates(events, replace(build.recipe, train=rule)))

    assert of(0.1) < of(0.5) < of(1.0)
    assert len(of(0.5)) == pytest.approx(len(of(1.0)) / 2, abs=1)
    assert of(0.5) != of(0.5, seed=1)
    assert len(of(1e-9)) == 1


def test_steps_end_with_the_epochs(build: Build) -> None:
    rule = replace(build.recipe.train, steps=100, slates_per_step=8)
    assert num_steps(replace(rule, max_epochs=None), 80) == 100
    assert num_steps(replace(rule, max_epochs=1.0), 81) == 11
    assert num_steps(replace(rule, max_epochs=2.5), 80) == 25
    assert num_steps(replace(rule, max_epochs=50.0), 80) == 100


def test_grades_and_shares_are_trained_and_written(build: Build, tmp_path: Path) -> None:
    found = run_comparison(build, 1, 2, tmp_path, lambda *_: None)
    (sweep,) = found.sweeps
    steps = [row.outcomes[0]["steps"] for _, row in sweep.rows]
    total = len(part_slates(build.events(), build.recipe, "train"))
    assert steps == [num_steps(build.recipe.train, round(share * total)) for share in SHARES]
    assert steps[0] < steps[-1]
    assert "1 × 1 of the training slates, at most 40 steps of 8 users" in found.budget

    axes = find_axes(found, build.recipe, build.events())
    written = write_scaling(axes, found, "python -m builder scaling x", tmp_path / "out")

    assert [path.name for path in written] == ["scaling.md", "scaling.json", "scaling.png"]
    text = written[0].read_text()
    assert "Made by `python -m builder scaling x`." in text
    for label in ("width 4", "## By training targets seen", "| log loss |", "| 1 − AUC |"):
        assert label in text
    assert [axis["name"] for axis in json.loads(written[1].read_text())["axes"]] == [
        WEIGHTS,
        TARGETS,
    ]
    width, height = struct.unpack(">II", written[2].read_bytes()[16:24])
    assert min(width, height) > 400


def test_with_too_few_points_there_is_no_axis(build: Build, tmp_path: Path) -> None:
    found = comparison(build)
    few = replace(found, rows=found.rows[:3], sweeps=())
    assert find_axes(few, build.recipe, build.events()) == []
    assert len(write_scaling([], few, "command", tmp_path)) == 2
