"""Recipes: all problems are listed at once; valid values become typed dataclasses."""

import json
import tomllib
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from builder.errors import RecipeError
from builder.ingest.sources import SOURCES
from builder.recipe.data import Data
from builder.recipe.language import LanguageRule
from builder.recipe.models import Variant
from builder.recipe.recipe import LATER_KEYS, Recipe, load_recipe, recipe_from
from tests.builder.logs import plain_recipe, problems_of

RECIPES = sorted(
    path
    for folder in ("builder/recipes", "builder/recipes/experiments")
    for path in Path(folder).glob("*.toml")
)
HERE = Path("recipe.toml")
SHARES = ("validate_users", "test_users", "validate_events", "test_events")


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


def test_to_dict_is_json_and_holds_no_path_of_this_machine() -> None:
    recipe = load_recipe("builder/recipes/habit.toml")

    values = recipe.to_dict()

    assert json.loads(json.dumps(values)) == values
    assert set(values) == {field.name for field in fields(Recipe)} - {
        "path",
        "language",
        "publish",
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


def test_files_are_looked_for_beside_the_recipe_first(tmp_path: Path) -> None:
    recipe = recipe_from(plain_recipe(), tmp_path / "deep" / "recipe.toml")

    assert recipe.places("a.csv") == [tmp_path / "deep" / "a.csv", Path.cwd() / "a.csv"]
    assert recipe.places("/a.csv") == [Path("/a.csv")]


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


def test_what_is_excluded_is_part_of_the_fingerprint() -> None:
    """Builds from before the key excluded everything ever touched: they must not pass for current ones."""
    values = recipe_from(plain_recipe(), HERE).to_dict()

    assert values["negatives"]["exclude"] == "slate"
    assert "own_past" not in values["negatives"]


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
