"""Recipes that share a file of variants."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from builder.errors import RecipeError
from builder.recipe.include import with_included
from builder.recipe.recipe import load_recipe, recipe_from
from tests.builder.logs import plain_recipe

SHARED = """
[search]
learning_rate = [0.1, 0.2]
[[variant]]
label = "one"
family = "full"
model = { name = "din", dropout = 0.5 }
[[variant]]
label = "two"
family = "lrea"
model = { name = "lrea" }
"""


def included(tmp_path: Path, values: dict[str, Any], shared: str = SHARED) -> dict[str, Any]:
    (tmp_path / "shared.toml").write_text(shared)
    return with_included({"include": "shared.toml", **values}, tmp_path / "recipe.toml")


def test_tables_come_from_the_file_unless_the_recipe_has_its_own(tmp_path: Path):
    values = included(tmp_path, {"name": "x", "search": {"learning_rate": [0.3, 0.4]}})
    assert values["name"] == "x"
    assert values["search"] == {"learning_rate": [0.3, 0.4]}
    assert [variant["label"] for variant in values["variant"]] == ["one", "two"]
    assert "include" not in values


def test_a_recipes_own_variants_come_after_the_included_ones(tmp_path: Path):
    own = {"label": "three", "family": "lrea", "model": {"name": "lrea"}}
    values = included(tmp_path, {"variant": [own]})
    assert [variant["label"] for variant in values["variant"]] == ["one", "two", "three"]


def test_defaults_fill_the_keys_that_a_variant_does_not_set(tmp_path: Path):
    values = included(tmp_path, {"variant_defaults": {"dropout": 0.1, "heads": 2}})
    one, two = (variant["model"] for variant in values["variant"])
    assert one == {"name": "din", "dropout": 0.5, "heads": 2}
    assert two == {"name": "lrea", "dropout": 0.1, "heads": 2}
    assert "variant_defaults" not in values


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"include": 3}, "include: got 3, expected the name of a file"),
        ({"include": "absent.toml"}, r"include: got .*absent.toml \(No such file"),
        ({"include": "broken.toml"}, "include: got .*broken.toml, which is not TOML"),
        ({"variant_defaults": [1]}, r"variant_defaults: got \[1\], expected a table"),
    ],
)
def test_what_cannot_be_included_is_named(tmp_path: Path, values: dict[str, Any], message: str):
    (tmp_path / "broken.toml").write_text("= 1")
    with pytest.raises(RecipeError, match=rf"recipe\.toml: 1 problem.*\n  - {message}"):
        with_included(values, tmp_path / "recipe.toml")


def test_what_a_recipe_includes_is_checked_as_its_own(tmp_path: Path):
    """A file of variants that includes another, and a default that one of the models does not have."""
    (tmp_path / "shared.toml").write_text('include = "more.toml"\n' + SHARED)
    values = plain_recipe(include="shared.toml", variant_defaults={"rank": 8})
    with pytest.raises(RecipeError) as caught:
        recipe_from(values, tmp_path / "recipe.toml")
    keys = [problem.split(":")[0] for problem in caught.value.problems]
    assert sorted(keys) == ["include", "variant[0].model.rank"]


def test_comparisons_compare_the_same_models_after_the_same_search():
    """All but those of promotions and habit, which have rows of their own."""
    recipes = [
        load_recipe(path)
        for path in sorted(Path("builder/recipes/experiments").glob("*-compare.toml"))
        if path.name not in {"promotions-compare.toml", "habit-compare.toml"}
    ]
    assert len(recipes) == 3
    shared_file = Path("builder/recipes/experiments/variants/long-history.toml").read_text()
    labels = [variant["label"] for variant in tomllib.loads(shared_file)["variant"]]
    for recipe in recipes:
        assert [variant.label for variant in recipe.variant][: len(labels)] == labels
        assert recipe.search == recipes[0].search
        assert recipe.search.trials == 3
        for key in ("dropout", "id_dropout", "id_rate"):
            assert len({str(variant.model.config[key]) for variant in recipe.variant}) == 1
