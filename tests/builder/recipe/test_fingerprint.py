"""Fingerprints of recipes: which keys make a step due again."""

import json
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import pytest

from builder.recipe.language import LanguageRule
from builder.recipe.recipe import LATER_KEYS, Recipe, load_recipe, recipe_from
from tests.builder.logs import HERE, plain_recipe


def test_to_dict_is_json_and_holds_no_path_of_this_machine() -> None:
    recipe = load_recipe("builder/recipes/habit.toml")

    values = recipe.to_dict()

    assert json.loads(json.dumps(values)) == values
    assert set(values) == {field.name for field in fields(Recipe)} - {
        "path",
        "language",
        "publish",
        "gate",
        "audit",
        "sampling",
        "calibration",
    }
    assert values["data"]["item_fields"][0] == "product_type"


def test_fingerprint_changes_with_its_sections_only() -> None:
    recipe = recipe_from(plain_recipe(), HERE)
    longer = replace(recipe, train=replace(recipe.train, steps=recipe.train.steps + 1))

    assert recipe.fingerprint(["data", "split"]) == longer.fingerprint(["data", "split"])
    assert recipe.fingerprint(["train"]) != longer.fingerprint(["train"])
    assert recipe.fingerprint(["data"]) == replace(recipe, path=Path("/else")).fingerprint(["data"])


def test_recipes_without_the_later_keys_keep_their_fingerprints() -> None:
    """The fingerprint from before these keys existed: finished ingests and comparisons stay valid."""
    recipe = load_recipe("builder/recipes/tiny.toml")

    assert recipe.fingerprint(["split", "history"]) == "b473335de988afe1"


@pytest.mark.parametrize(
    "rule",
    [
        {"last_only": True},
        {"validate_users": 0.1, "test_users": 0.1},
        {"validate_events": 0.1, "test_events": 0.1},
    ],
    ids=str,
)
def test_later_keys_of_a_split_change_its_fingerprint(rule: dict[str, Any]) -> None:
    plain, other = (recipe_from(plain_recipe(split=split), HERE) for split in ({}, rule))

    assert plain.fingerprint(["split"]) != other.fingerprint(["split"])
    assert other.to_dict()["split"].items() >= rule.items()


def test_recipes_without_neutral_ratings_keep_the_fingerprint_of_their_data() -> None:
    """The fingerprint from before this key existed."""
    recipe = load_recipe("builder/recipes/experiments/movielens-100k-implicit.toml")
    neutral = replace(recipe, data=replace(recipe.data, positive_from=4.0, negative_to=2.0))
    without = replace(recipe, data=replace(recipe.data, positive_from=4.0))

    assert recipe.fingerprint(["data"]) == "dd00297583c0d363"
    assert neutral.fingerprint(["data"]) != without.fingerprint(["data"])
    assert neutral.to_dict()["data"]["negative_to"] == 2.0


@pytest.mark.parametrize("rule", [{"share": 0.5}, {"max_epochs": 1.0}, {"weight_decay": 0.1}])
def test_later_keys_of_the_training_change_its_fingerprint(rule: dict[str, Any]) -> None:
    plain = recipe_from(plain_recipe(train={"steps": 5}), HERE)
    same = recipe_from(plain_recipe(train={"steps": 5, "share": 1.0}), HERE)
    other = recipe_from(plain_recipe(train={"steps": 5, **rule}), HERE)
    assert plain.fingerprint(["train"]) == same.fingerprint(["train"])
    assert plain.fingerprint(["train"]) != other.fingerprint(["train"])
    absent = (*LATER_KEYS["train"], "device")  # the device is not part of what is built
    assert plain.to_dict()["train"] == {
        key: value for key, value in asdict(plain.train).items() if key not in absent
    }


def test_a_section_on_language_is_part_of_a_fingerprint_only_where_it_is_there() -> None:
    plain = recipe_from(plain_recipe(), HERE)
    other = replace(plain, language=LanguageRule())

    assert plain.fingerprint(["model"]) == plain.fingerprint(["model", "language"])
    assert plain.fingerprint(["model", "language"]) != other.fingerprint(["model", "language"])


def test_what_is_excluded_is_part_of_the_fingerprint() -> None:
    """Builds from before the key excluded everything ever touched: they must not pass for current ones."""
    values = recipe_from(plain_recipe(), HERE).to_dict()

    assert values["negatives"]["exclude"] == "slate"
    assert "own_past" not in values["negatives"]
