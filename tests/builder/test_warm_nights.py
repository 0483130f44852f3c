"""The second night of a run folder: it goes on from the first one's training, or says why it does not."""

import json
from dataclasses import replace
from typing import Any

import pytest

from builder.cli.steps import IN_WORDS
from builder.pipeline import Build, is_due, run_step
from builder.recipe.models import ModelChoice
from builder.run_folder import Stamp
from tests.builds import STEPS as TRAINING_STEPS


def next_night(build: Build, warm_start: int = 5, **rule: Any) -> Build:
    """The recipe a day later."""
    split = build.recipe.split
    days = {
        name: getattr(split, name) + 1
        for name in ("train_from_day", "validate_from_day", "test_from_day")
    }
    train = replace(build.recipe.train, warm_start=warm_start, **rule)
    return replace(build, recipe=replace(build.recipe, split=replace(split, **days), train=train))


def trained(build: Build) -> Stamp:
    for name in ("ingest", "audit", "train"):
        run_step(build, name)
    return build.folder.stamps()["train"]


def test_the_second_night_goes_on_from_the_first(build: Build) -> None:
    tonight = next_night(build)
    assert is_due(tonight, "train")

    stamp = trained(tonight)

    assert stamp.result["warm_start"] == f"from step {TRAINING_STEPS}"
    assert stamp.result["steps"] == TRAINING_STEPS + 5
    assert f"went on from step {TRAINING_STEPS}" in IN_WORDS["train"](stamp.result)
    last = stamp.result["steps"]
    for best, may_improve in ((last, True), (last - 1, False)):
        line = IN_WORDS["train"]({**stamp.result, "ended": "max_steps", "best_step": best})
        assert ("may have improved further" in line) == may_improve
    for name in ("evaluate", "export"):
        run_step(tonight, name)
    assert tonight.artifact().manifest.recipe["train"]["warm_start"] == 5
    assert trained(next_night(tonight)).result["warm_start"] == f"from step {TRAINING_STEPS + 5}"


def test_a_recipe_without_warm_starts_trains_anew(build: Build) -> None:
    stamp = trained(next_night(build, warm_start=0))

    assert stamp.result["warm_start"] == ""
    assert stamp.result["steps"] == TRAINING_STEPS
    assert "warm" not in IN_WORDS["train"](stamp.result)


def test_another_model_trains_anew_and_says_why(build: Build, caplog) -> None:
    tonight = next_night(build)
    model = ModelChoice("lrea", {**tonight.recipe.model.config, "rank": 4})
    tonight = replace(tonight, recipe=replace(tonight.recipe, model=model))

    stamp = trained(tonight)

    assert stamp.result["steps"] == TRAINING_STEPS
    assert "warm start, config: got a checkpoint with" in stamp.result["warm_start"]
    assert "warm start, config: got a checkpoint with" in caplog.text
    assert "trained anew" in IN_WORDS["train"](stamp.result)


def test_a_checkpoint_of_an_earlier_version_trains_anew(build: Build) -> None:
    for file in build.folder.checkpoint.glob("warm_start.*"):
        file.unlink()

    stamp = trained(next_night(build))

    assert stamp.result["steps"] == TRAINING_STEPS
    assert "got no" in stamp.result["warm_start"]


def test_a_night_before_the_last_one_trains_anew(build: Build) -> None:
    """Yesterday's weights have seen what is for tests today."""
    trained(next_night(build))

    stamp = trained(
        replace(build, recipe=replace(next_night(build).recipe, split=build.recipe.split))
    )

    assert "which are now for validation and tests" in stamp.result["warm_start"]


def test_a_checkpoint_holds_no_user_id(build: Build) -> None:
    kept = json.loads((build.folder.checkpoint / "warm_start.json").read_text())

    assert set(build.events().user_ids).isdisjoint(json.dumps(kept["about"]).split('"'))
    assert not any(set(build.events().user_ids) & set(values) for values in kept["values"].values())


@pytest.mark.parametrize("steps", [-1, 2.5])
def test_steps_are_a_number(steps: float) -> None:
    from builder.errors import RecipeError
    from builder.recipe.recipe import recipe_from
    from tests.builder.logs import HERE, plain_recipe

    with pytest.raises(RecipeError, match="warm_start"):
        recipe_from(plain_recipe(train={"warm_start": steps}), HERE)
