"""Comparisons: every variant with the same trials and seeds, each training once, chosen by validation only."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from builder.errors import RecipeError, StepError
from builder.evaluate.baselines.measure import measure_baselines
from builder.experiments.compare.jobs import Jobs, run_jobs
from builder.experiments.compare.plan import Outcomes, Plan
from builder.experiments.compare.run import collect_comparison, prepare, run_comparison
from builder.experiments.compare.search import TRIAL_SEED
from builder.experiments.compare.table import Comparison
from builder.experiments.compare.training import run_training
from builder.pipeline import Build
from builder.recipe.models import ModelChoice, SearchRule, Setting, Sweep, Variant

SMALL: dict[str, Any] = {"mlp": [8], "item_dim": 4, "hidden": 4, "heads": 2}
VARIANTS = (
    Variant("no long history", "none", ModelChoice("din", {**SMALL, "long": False})),
    Variant("LREA r = 4/8", "lrea", ModelChoice("lrea", {**SMALL, "rank": 4, "slots": "hash"})),
)
GRID = (0.1, 0.01)


@pytest.fixture
def comparison(finished: Build) -> Build:
    """Over the finished build's log, which comparing only reads."""
    rule = replace(finished.recipe.train, steps=2, validate_every=2, slates_per_step=8)
    return replace(finished, recipe=replace(finished.recipe, train=rule, variant=VARIANTS))


def with_search(build: Build) -> Build:
    """And a grid, and a sweep whose first value is the variant's own."""
    sweep = Sweep("slots", VARIANTS[1].label, "rank", (4, 2), seeds=1)
    search = SearchRule(GRID, steps=1)
    return replace(build, recipe=replace(build.recipe, search=search, sweep=(sweep,)))


Compare = Callable[..., tuple[Comparison, list[tuple[int, int, str]]]]


@pytest.fixture
def compare(tmp_path: Path) -> Compare:
    """Run a comparison; what it found and what it told."""

    def run(
        build: Build, only: Sequence[str] = ()
    ) -> tuple[Comparison, list[tuple[int, int, str]]]:
        told: list[tuple[int, int, str]] = []
        found = run_comparison(
            build,
            2,
            1,
            tmp_path,
            lambda done, total, note="": told.append((done, total, note)),
            only,
        )
        return found, told

    return run


class Deadly(type(Path())):  # type: ignore[misc]
    """Ends the process that reads a file below it."""

    def __truediv__(self, name: object) -> Path:
        os._exit(1)


def fake(plan: Plan, variant: Variant, aucs: Sequence[float]) -> None:
    """Trials of a variant as if they had come to these validation AUCs."""
    for trial, auc in zip(plan.trials(variant), aucs, strict=True):
        rate, validation = trial.recipe.train.learning_rate, {"auc": auc, "log_loss": 0.5}
        outcome = {"learning_rate": rate, "validation": validation, "total_seconds": 1.0}
        plan.outcomes.place(trial).write_text(json.dumps(outcome))


def test_a_recipe_without_variants_is_refused(finished: Build, compare: Compare) -> None:
    with pytest.raises(RecipeError, match=r"variant: missing, `compare` needs \[\[variant\]\]"):
        compare(finished)


def test_a_model_that_does_not_fit_the_log_is_refused_before_anything_is_trained(
    comparison: Build, compare: Compare, tmp_path: Path
) -> None:
    bad = Variant("bad", "lrea", ModelChoice("lrea", {"slots": "hash", "rank": 1}))
    sweep = Sweep("loss", VARIANTS[1].label, "nonneg", (0.0, 0.5))
    recipe = replace(comparison.recipe, variant=(*VARIANTS, bad), sweep=(sweep,))

    with pytest.raises(RecipeError) as caught:
        compare(replace(comparison, recipe=recipe))

    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        "variant 'bad'",
        "sweep 'loss', 0.5",
    ]
    assert not list(tmp_path.iterdir())


def test_finished_trainings_are_not_done_again(
    comparison: Build, compare: Compare, tmp_path: Path
) -> None:
    found, told = compare(comparison)

    assert [line[:2] for line in told] == [(done, 4) for done in range(5)]
    assert [(row.label, len(row.outcomes)) for row in found.rows] == [
        (v.label, 2) for v in VARIANTS
    ]
    one, other = found.rows[1].values("auc").values()
    assert one != other  # two seeds
    assert found.floors == measure_baselines(comparison.events(), comparison.recipe).to_dict()

    cut_off = next(tmp_path.glob("LREA*-seed1-*.json"))
    cut_off.unlink()
    partly = collect_comparison(comparison, 2, tmp_path)
    assert [len(row.outcomes) for row in partly.rows] == [2, 1]
    assert all(row.vectors.keys() == row.values("auc").keys() for row in found.rows)
    assert (partly.missing, cut_off.exists()) == ([], False)
    again, told = compare(comparison)
    assert [line[:2] for line in told] == [(3, 4), (4, 4)]
    assert told[1][2].startswith("LREA r = 4/8, seed 1: AUC 0.")
    assert told[1][2].endswith("all trained")
    assert cut_off.exists()
    assert again.rows[1].values("auc") == {0: one, 1: other}  # the seed decides all

    assert compare(comparison)[1] == [(4, 4, "")]


def test_every_variant_has_the_same_trials_and_none_has_seen_the_test(
    comparison: Build, compare: Compare, tmp_path: Path
) -> None:
    build = with_search(comparison)

    found, told = compare(build)

    assert told[-1][:2] == (9, 9)  # 2 variants x (2 trials + 2 seeds) + 1 value
    outcomes = [json.loads(path.read_text()) for path in tmp_path.glob("*-seed*.json")]
    trials = [outcome for outcome in outcomes if outcome["seed"] == TRIAL_SEED]
    tried = {(trial["model"], trial["learning_rate"], trial["steps"]) for trial in trials}
    assert tried == {(model, rate, 1) for model in ("din", "lrea") for rate in GRID}
    assert len(trials) == len(tried)
    assert not any({"test", "trained_graph", "cuts", "by_history"} & set(trial) for trial in trials)
    assert all("test" in outcome for outcome in outcomes if outcome not in trials)
    for row in found.rows:
        own = [trial for trial in trials if trial["model"] == row.model.name]
        best = max(own, key=lambda trial: trial["validation"]["auc"])
        assert row.learning_rate == best["learning_rate"]
        assert {outcome["learning_rate"] for outcome in row.outcomes} == {row.learning_rate}


def test_a_trial_does_not_even_load_the_test_period(
    comparison: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = []

    def watched(events: Any, recipe: Any, part: Any) -> Any:
        parts.append(part)
        return original(events, recipe, part)

    import builder.dataset.parts
    import builder.evaluate.report
    import builder.train.validation

    original = builder.dataset.parts.part_slates
    for module in (builder.dataset.parts, builder.train.validation, builder.evaluate.report):
        monkeypatch.setattr(module, "part_slates", watched)
    plan = Plan(with_search(comparison).recipe, 1, Outcomes(tmp_path, "log"))

    run_training(plan.trials(VARIANTS[0])[0], prepare(comparison), tmp_path / "trial.json", "")
    assert set(parts) == {"train", "validate"}

    run_training(
        plan.trainings(VARIANTS[0], plan.usual)[0], prepare(comparison), tmp_path / "one.json", ""
    )
    assert set(parts) == {"train", "validate", "test"}


def test_search_ends_with_the_last_trial_and_picks_the_best_validated(
    comparison: Build, tmp_path: Path
) -> None:
    recipe = with_search(comparison).recipe
    plan = Plan(recipe, 2, Outcomes(tmp_path, "log"))
    fake(plan, VARIANTS[0], [0.6, 0.7])

    assert plan.chosen(VARIANTS[0]) == Setting(GRID[1], 0.0)
    assert plan.chosen(VARIANTS[1]) is None
    state = plan.state(VARIANTS)
    assert [(training.variant, training.is_trial) for training in state.due] == [
        (VARIANTS[0].label, False),
        (VARIANTS[0].label, False),
        (VARIANTS[1].label, True),
        (VARIANTS[1].label, True),
    ]
    assert (len(state.waiting), state.done, state.total) == (3, 2, 9)

    fake(plan, VARIANTS[1], [0.7, 0.7])
    assert plan.chosen(VARIANTS[1]) == Setting(GRID[0], 0.0)  # the first of equals


def test_a_sweep_trains_what_is_not_the_variant_itself(
    comparison: Build, compare: Compare, tmp_path: Path
) -> None:
    found, _ = compare(with_search(comparison))

    (sweep,) = found.sweeps
    assert (sweep.label, sweep.variant, sweep.key) == ("slots", VARIANTS[1].label, "rank")
    assert [(value, len(row.outcomes)) for value, row in sweep.rows] == [(4, 1), (2, 1)]
    (same, other) = (row.outcomes[0] for _, row in sweep.rows)
    assert same == found.rows[1].outcomes[0]
    assert (other["config"]["rank"], other["seed"]) == (2, 0)
    assert other["learning_rate"] == same["learning_rate"]
    assert [path.name.split("-seed")[0] for path in tmp_path.glob("*rank*.json")] == [
        "LREA r = 4-8, rank = 2"
    ]


def test_only_some_are_trained_and_those_that_are_there_are_shown(
    comparison: Build, compare: Compare
) -> None:
    first, told = compare(comparison, only=[VARIANTS[1].label])
    assert [row.label for row in first.rows] == [VARIANTS[1].label]
    assert told[-1][:2] == (2, 2)

    second, _ = compare(comparison, only=[VARIANTS[0].label])
    assert [row.label for row in second.rows] == [v.label for v in VARIANTS]


def test_a_process_that_dies_is_said_so(comparison: Build, tmp_path: Path) -> None:
    prepared = prepare(comparison)
    deadly = replace(prepared, folder=Deadly(prepared.folder))

    with pytest.raises(StepError, match=r"process of .* died.*finished trainings are kept"):
        run_jobs(Jobs(deadly, tmp_path, seeds=1, workers=1))


def test_a_training_that_fails_is_said_so_after_the_others(
    comparison: Build, tmp_path: Path
) -> None:
    prepared = prepare(comparison)
    broken = replace(VARIANTS[1], label="broken", model=ModelChoice("lrea", {"rank": 0}))
    recipe = replace(prepared.recipe, variant=(broken, VARIANTS[1]))

    with pytest.raises(StepError, match=r"'broken-seed0-.*' failed: Traceback"):
        run_jobs(Jobs(replace(prepared, recipe=recipe), tmp_path, seeds=1, workers=1))

    assert len(list(tmp_path.glob("LREA*.json"))) == 1


def test_another_label_or_a_default_written_out_is_no_other_training(
    comparison: Build, tmp_path: Path
) -> None:
    recipe = comparison.recipe
    plan = Plan(recipe, 1, Outcomes(tmp_path, "log"))
    model = VARIANTS[0].model
    same = Variant("renamed", "control", replace(model, config={**model.config, "dropout": 0.0}))
    other = Variant("x", "none", replace(model, config={**model.config, "dropout": 0.1}))

    keys = [plan.trainings(v, plan.usual)[0].key("log") for v in (VARIANTS[0], same, other)]

    assert keys[0] == keys[1] != keys[2]
    assert keys[0] != plan.trainings(VARIANTS[0], Setting(0.2, 0.0))[0].key("log")
    assert keys[0] != plan.trainings(VARIANTS[0], plan.usual)[0].key("another log")
