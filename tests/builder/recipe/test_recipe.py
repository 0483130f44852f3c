"""Recipes: all problems are listed at once; valid values become typed dataclasses."""

from pathlib import Path
from typing import Any

import pytest

from builder.errors import RecipeError
from builder.recipe.models import Variant
from builder.recipe.recipe import load_recipe, recipe_from
from tests.builder.logs import HERE, plain_recipe, problems_of

SHARES = ("validate_users", "test_users", "validate_events", "test_events")


def test_values_become_tuples_floats_and_nested_tables() -> None:
    values = plain_recipe(
        data={"item_fields": ["brand"], "category": "brand", "columns": {"user": "who"}},
        split={"train_from_day": 1, "validate_from_day": 2, "test_from_day": 3},
        model={"name": "lrea", "rank": 16},
        variant=[{"label": "DIN", "family": "full", "model": {"name": "din", "heads": 2}}],
    )

    recipe = recipe_from(values, HERE)

    assert recipe.data.item_fields == ("brand",)
    assert recipe.data.columns.user == "who"
    assert isinstance(recipe.split.train_from_day, float)
    assert recipe.model.config == {"rank": 16}
    assert isinstance(recipe.variant[0], Variant)
    assert recipe.variant[0].model.config == {"heads": 2}


def test_every_problem_is_listed_at_once() -> None:
    values = plain_recipe(
        data={"source": "file", "categry": "brand", "min_item_count": 0, "item_fields": "brand"},
        model={"name": "lrea", "rnak": 3, "rank": 1.5, "slots": "hsah"},
        train={"steps": True, "learning_rate": 0},
        history=3,
        variant=[{"label": "other", "family": "none", "model": {"name": "lrae"}}],
    )
    values["serv_as"] = values.pop("serve_as")

    problems = problems_of(values)

    for words in (
        "data.source: got 'file', expected one of: complete-journey, movielens, files, synthetic",
        "data.categry: unknown key",
        "did you mean 'category'?",
        "data.min_item_count: got 0, expected at least 1",
        "data.item_fields: got 'brand', expected a list",
        "model.rnak: unknown key",
        "did you mean 'rank'?",
        "model.rank: got 1.5, expected a whole number",
        "model.slots: got 'hsah'",
        "did you mean 'hash'?",
        "train.steps: got True, expected a whole number",
        "train.learning_rate: got 0, expected a number above 0",
        "history: got 3, expected a table",
        "variant[0].model.name: model: got 'lrae'",
        "serv_as: unknown key",
        "serve_as: missing, expected a string",
    ):
        assert any(words in problem for problem in problems), words
    assert len(problems) == 13


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"name": "Big Name"}, "name: got 'Big Name', expected 1 to 64 of"),
        ({"serve_as": "a/b"}, "serve_as: got 'a/b'"),
        ({"serve_as": "a" * 65}, "serve_as: got 'aaa"),
        ({"path": "x"}, "path: unknown key"),
        ({"model": {"rank": 3}}, "model.name: missing, expected a string"),
        ({"model": {"name": 3}}, "model.name: got 3, expected a string"),
        ({"model": "lrea"}, "model: got 'lrea', expected a table"),
        ({"variant": {"label": "x"}}, "variant: got {'label': 'x'}, expected a list"),
        ({"variant": ["x"]}, "variant[0]: got 'x', expected a table"),
        ({"split": {"train_from_day": 3}}, "expected all three or none"),
        ({"split": {"validate_from": 0.95}}, "split.train, validate, test: got [0.0, 0.95, 0.9]"),
        (
            {"split": {"test_users": 0.1}},
            "validate_users, test_users: got (None, 0.1), expected both",
        ),
        (
            {"split": {"test_users": 0.5, "validate_users": 0.5}},
            "split.validate_users, test_users: got (0.5, 0.5), expected a sum below 1",
        ),
        (
            {"split": {"test_users": 0, "validate_users": 0.5}},
            "split.test_users: got 0, expected a number above 0",
        ),
        (
            {"split": {"test_users": 0.1, "validate_users": 0.1, "train_from": 0.1}},
            "split.train_from: got a split by time, but validate_users and test_users split by user",
        ),
        (
            {"split": {"validate_events": 0.1}},
            "split.validate_events, test_events: got (0.1, None), expected both or none",
        ),
        (
            {"split": {"validate_events": 0.5, "test_events": 0.5}},
            "split.validate_events, test_events: got (0.5, 0.5), expected a sum below 1",
        ),
        (
            {"split": {"validate_events": 0.1, "test_events": 0.1, "validate_from": 0.1}},
            "split.validate_from: got a split by time, but validate_events and test_events split by event",
        ),
        (
            {"split": dict.fromkeys(SHARES, 0.1)},
            "split.test_users, test_events: got both, expected a split by user or by event",
        ),
        ({"split": {"last_only": 1}}, "split.last_only: got 1, expected true or false"),
        ({"split": {"test_from": 1.5}}, "split.test_from: got 1.5, expected at most 1"),
        (
            {"train": {"learning_rate": float("nan")}},
            "train.learning_rate: got 'NaN', expected a number",
        ),
        ({"train": {"optimizer": "adagrat"}}, "did you mean 'adagrad'?"),
        ({"cache": {"dtype": "int4"}}, "cache.dtype: got 'int4', expected one of: fp32, fp16"),
        (
            {"data": {"path": "x"}},
            "data.path: got a key that source 'files' does not read, expected it",
        ),
        ({"data": {"item_fields": ["a", "a"]}}, "data.item_fields: got 'a' twice"),
        (
            {"data": {"item_fields": ["popularity"]}},
            "got 'popularity', expected a name that is not reserved",
        ),
        (
            {"data": {"item_fields": ["brand"], "category": "brnad"}},
            "data.category: got 'brnad', expected one of data.item_fields: brand; did you mean",
        ),
        (
            {"data": {"positive_from": 4}},
            "data.columns.label: missing, expected the column of ratings",
        ),
        (
            {"data": {"negative_to": 2}},
            "data.negative_to: got 2, expected less than positive_from (unset)",
        ),
        (
            {"data": {"negative_to": 4, "positive_from": 4, "columns": {"label": "stars"}}},
            "data.negative_to: got 4, expected less than positive_from (4)",
        ),
        ({"data": {"events": 7}}, "data.events: got 7, expected a string"),
    ],
)
def test_impossible_value_names_the_key(sections: dict[str, Any], words: str) -> None:
    problems = problems_of(plain_recipe(**sections))

    assert len(problems) == 1
    assert words in problems[0]


def test_every_cut_by_time_beside_a_split_by_user_is_a_problem() -> None:
    rule = {"train_from_day": 1, "validate_from_day": 2, "test_from_day": 3, "test_from": 0.9}

    problems = problems_of(plain_recipe(split=rule | {"test_users": 0.1, "last_only": "yes"}))

    keys = ["last_only", "train_from_day", "validate_from_day", "test_from_day", "test_from"]
    assert [problem.split(":")[0] for problem in problems] == [f"split.{key}" for key in keys]


@pytest.mark.parametrize(
    ("source", "key"),
    [("files", "events"), ("movielens", "path"), ("amazon-reviews", "path"), ("taobao", "path")],
)
def test_source_names_the_key_it_needs(source: str, key: str) -> None:
    values = plain_recipe()
    values["data"] = {"source": source}

    assert problems_of(values) == [f"data.{key}: missing, expected for source {source!r}"]


@pytest.mark.parametrize(
    ("size", "words"),
    [({"items": 5}, "data.synthetic.items: got 5"), ({"interests": 31}, "at most half")],
)
def test_synthetic_sizes_must_fit_each_other(size: dict[str, int], words: str) -> None:
    values = plain_recipe()
    values["data"] = {"source": "synthetic", "synthetic": size}

    assert words in problems_of(values)[0]


def test_missing_file_lists_the_shipped_recipes(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"No such file.*habit\.toml"):
        load_recipe(tmp_path / "none.toml")


@pytest.mark.parametrize("content", [b"name = ", b"\xff\xfe"])
def test_a_file_that_is_not_toml_is_rejected(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.toml").write_bytes(content)

    with pytest.raises(RecipeError, match="not TOML"):
        load_recipe(tmp_path / "broken.toml")


def test_files_are_looked_for_beside_the_recipe_first(tmp_path: Path) -> None:
    recipe = recipe_from(plain_recipe(), tmp_path / "deep" / "recipe.toml")

    assert recipe.places("a.csv") == [tmp_path / "deep" / "a.csv", Path.cwd() / "a.csv"]
    assert recipe.places("/a.csv") == [Path("/a.csv")]


@pytest.mark.parametrize(
    ("kind", "name"), [("item_fields", "user"), ("context_fields", "user"), ("user_fields", "item")]
)
def test_reserved_names_are_refused_elsewhere(kind: str, name: str) -> None:
    (problem,) = problems_of(plain_recipe(data={kind: [name]}))

    assert problem == f"data.{kind}: got {name!r}, expected a name that is not reserved"


@pytest.mark.parametrize("name", ["hour", "candidates", "recent"])
def test_a_candidate_field_has_a_name_of_its_own(name: str) -> None:
    data = {"candidate_fields": ["display", name], "context_fields": ["hour"]}
    problems = problems_of(plain_recipe(data=data))

    (problem,) = [one for one in problems if one.startswith("data.candidate_fields: got ")]
    assert problem.startswith(f"data.candidate_fields: got {name!r}, expected a name that no cont")


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        (
            {"own_past": 0.5, "exclude": "past"},
            'negatives.own_past: got 0.5 with exclude = "past", expected exclude = "slate"',
        ),
        (
            {"window_hours": 1.0, "popularity_power": 1.0},
            "negatives.window_hours: got 1 with same_category = 0.5, expected same_category = 0",
        ),
        (
            {"window_hours": 1.0, "same_category": 0.0},
            "negatives.window_hours: got 1 with popularity_power = 0.75, expected popularity_power = 1",
        ),
        (
            {"exclude": "future"},
            "negatives.exclude: got 'future', expected one of: slate, past, ever",
        ),
    ],
)
def test_rules_of_negatives_that_contradict_each_other_are_rejected(
    rule: dict[str, Any], problem: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe_from(plain_recipe(negatives=rule), HERE)

    assert problem in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        {"columns": {"label": "clicked"}},
        {"columns": {"label": "stars"}, "positive_from": 4.0},
    ],
)
def test_repeats_are_dropped_only_where_every_event_is_a_positive(data: dict[str, Any]) -> None:
    problems = problems_of(plain_recipe(data={"drop_repeats": True, **data}))

    assert problems == [
        "data.drop_repeats: got true for a log with labels, expected it only where every event is a positive"
    ]
