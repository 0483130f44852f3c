"""The shipped recipes: each loads, and says what the pages say of it."""

import tomllib
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from builder.ingest.sources import SOURCES
from builder.recipe.data import Data
from builder.recipe.recipe import load_recipe, recipe_from
from tests.builder.logs import HERE

RECIPES = sorted(
    path
    for folder in ("builder/recipes", "builder/recipes/experiments")
    for path in Path(folder).glob("*.toml")
)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipe_loads_under_its_own_name(path: Path) -> None:
    recipe = load_recipe(path)

    assert recipe.path == path
    assert recipe.name == path.stem or path.stem == "files"


def test_shipped_recipes_cover_every_source() -> None:
    assert {load_recipe(path).data.source for path in RECIPES} == set(SOURCES)


def test_habit_says_what_the_protocol_says() -> None:
    recipe = load_recipe("builder/recipes/habit.toml")

    assert (recipe.split.train_from_day, recipe.split.validate_from_day) == (161, 308)
    assert recipe.split.test_from_day == 329
    assert recipe.history.min_events == 50
    assert (recipe.negatives.exclude, recipe.negatives.own_past) == ("slate", 0.5)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_a_recipe_that_excludes_the_future_says_why_it_may(path: Path) -> None:
    recipe = load_recipe(path)
    allowed = {entry.rule for entry in recipe.audit.allow}

    assert (recipe.negatives.exclude == "ever") == ("item in history" in allowed)


def test_every_key_of_the_data_is_in_the_annotated_example_or_another_sources() -> None:
    text = Path("builder/recipes/files.toml").read_text()
    elsewhere = {"path", "synthetic"}

    missing = [key.name for key in fields(Data) if key.name not in text]

    assert set(missing) == elsewhere


def test_annotated_example_is_valid_with_every_comment_taken_off() -> None:
    lines = Path("builder/recipes/files.toml").read_text().splitlines()
    names = ("users", "positive_from", "negative_to", "label", "item_id", "user_id", "item_text")
    opened = [
        line.removeprefix("# ") if line.startswith(tuple(f"# {name} =" for name in names)) else line
        for line in lines
    ]
    assert opened != lines

    recipe = recipe_from(tomllib.loads("\n".join(opened)), HERE)

    assert recipe.data.columns.label == "clicked"


def documented_keys(config_class: type) -> set[str]:
    """Keys with a docstring under them or in the class's own."""
    import ast
    import inspect
    import textwrap

    tree = ast.parse(textwrap.dedent(inspect.getsource(config_class))).body[0]
    assert isinstance(tree, ast.ClassDef)
    pairs = zip(tree.body, tree.body[1:], strict=False)
    return {
        node.target.id
        for node, after in pairs
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and isinstance(after, ast.Expr)
    }


def test_keys_of_data_and_columns_are_documented() -> None:
    data = {field.name for field in fields(Data) if not is_dataclass(field.default)}

    assert data <= documented_keys(Data)
