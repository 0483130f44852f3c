"""Plain values become a config, or one sentence per wrong key."""

import datetime
import json
import math
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Interval
from hypothesis import given
from hypothesis import strategies as st

from builder.recipe.limits import NOT_A_KEY
from builder.recipe.validate import config_problems, make_config


@dataclass(frozen=True)
class Shelf:
    """Every kind of value a config may have."""

    kind: Literal["oak", "pine"]
    boards: Annotated[int, Interval(ge=1, le=9)] = 3
    depth: float = 0.3
    is_fixed: bool = True
    size: tuple[int, int] = (1, 2)
    labels: tuple[tuple[str, int], ...] = ()
    colour: str | None = None


GOOD = {
    "kind": st.sampled_from(["oak", "pine"]),
    "boards": st.integers(1, 9),
    "depth": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-9, 9),
    "is_fixed": st.booleans(),
    "size": st.lists(st.integers(), min_size=2, max_size=2),
    "labels": st.lists(st.tuples(st.text(), st.integers()).map(list)),
    "colour": st.text(),
}
BAD = {
    "kind": st.sampled_from(["elm", 3, ["oak"]]),
    "boards": st.sampled_from([0, 10, 2.0, True, "3"]),
    "depth": st.sampled_from([True, "0.3", float("inf"), [0.3]]),
    "is_fixed": st.sampled_from([0, "yes"]),
    "size": st.sampled_from([[1], [1, 2, 3], [1, 2.5], 1, "12"]),
    "labels": st.sampled_from([["a"], [["a"]], [["a", "b"]], "a"]),
    "colour": st.sampled_from([3, ["red"], False]),
}


@given(
    st.fixed_dictionaries(
        {"kind": GOOD["kind"]}, optional={name: GOOD[name] for name in GOOD if name != "kind"}
    )
)
def test_good_values_make_the_config(values: dict[str, Any]) -> None:
    assert config_problems(Shelf, values) == []

    shelf = make_config(Shelf, values)

    for name, value in values.items():
        assert json.loads(json.dumps(getattr(shelf, name))) == value
    assert isinstance(shelf.depth, float)
    assert isinstance(shelf.size, tuple)


@given(st.data(), st.sets(st.sampled_from(sorted(BAD)), min_size=1))
def test_every_bad_value_is_one_problem_that_names_its_key(
    data: st.DataObject, wrong: set[str]
) -> None:
    values = {name: data.draw((BAD if name in wrong else GOOD)[name]) for name in GOOD}

    problems = config_problems(Shelf, values, "shelf")

    named = {problem.removeprefix("shelf.").split(":")[0].split("[")[0] for problem in problems}
    assert named == wrong


def test_missing_key_without_default_is_a_problem() -> None:
    assert config_problems(Shelf, {}) == ["kind: missing, expected one of: oak, pine"]


@dataclass(frozen=True)
class Room:
    """Tables in tables, and a field that no file sets."""

    shelf: Shelf
    shelves: tuple[Shelf, ...] = ()
    notes: dict[str, str] = field(default_factory=dict)
    path: str = field(default="here", metadata=NOT_A_KEY)

    def __post_init__(self) -> None:
        if len(self.shelves) > 1:
            raise ValueError(f"shelves: got {len(self.shelves)}, expected at most 1")


def test_every_level_of_tables_is_checked_at_once() -> None:
    values = {
        "shelf": {"kind": "oka", "bords": 1},
        "shelves": [{"kind": "oak"}, {"boards": "2"}, 3],
        "notes": {"first": 1},
        "path": "there",
        "shelve": [],
    }

    assert config_problems(Room, values, "room") == [
        "room.path: unknown key; known: shelf, shelves, notes",
        "room.shelf.kind: got 'oka', expected one of: oak, pine; did you mean 'oak'?",
        "room.shelf.bords: unknown key; known: kind, boards, depth, is_fixed, size, labels, colour; "
        "did you mean 'boards'?",
        "room.shelves[1].kind: missing, expected one of: oak, pine",
        "room.shelves[1].boards: got '2', expected a whole number",
        "room.shelves[2]: got 3, expected a table",
        "room.notes.first: got 1, expected a string",
        "room.shelve: unknown key; known: shelf, shelves, notes; did you mean 'shelves'?",
    ]


def test_a_class_checks_its_keys_against_each_other() -> None:
    shelf = {"kind": "oak"}

    problems = config_problems(Room, {"shelf": shelf, "shelves": [shelf, shelf]}, "room")

    assert problems == ["room.shelves: got 2, expected at most 1"]


def test_a_missing_part_of_a_list_is_named() -> None:
    values = {"kind": "oak", "size": [1], "labels": [["a"]]}

    assert config_problems(Shelf, values) == [
        "size[1]: missing, expected a whole number",
        "labels[0][1]: missing, expected a whole number",
    ]


def test_what_only_toml_knows_is_no_number() -> None:
    """TOML has dates and infinity."""
    values = {"kind": "oak", "depth": math.inf, "boards": datetime.date(2020, 1, 31)}

    assert config_problems(Shelf, values) == [
        "boards: got '2020-01-31', expected a whole number",
        "depth: got 'Infinity', expected a number",
    ]
