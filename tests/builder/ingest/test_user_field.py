"""The users' own ids as a field of the profile."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from builder.errors import EventsError
from builder.recipe.recipe import Recipe
from models.contract.schema import FIRST_KNOWN, UNKNOWN
from models.contract.vocabulary import Vocabulary
from tests.builder.logs import (
    ingest_at,
    with_late_users,
    write_log,
)


def late_users_recipe(folder: Path, **data: Any) -> Recipe:
    sections: dict[str, Any] = {
        "model": {"name": "deep_fm"},
        "train": {"steps": 2, "validate_every": 1, "threads": 1},
        "history": {"length": 2, "recent": 1},
    }
    columns = {"label": "clicked", **data.pop("columns", {})}
    return write_log(folder, with_late_users(), data={**data, "columns": columns}, **sections)


def test_user_is_an_id_of_each_user_seen_in_training(tmp_path: Path) -> None:
    events = ingest_at(late_users_recipe(tmp_path, user_fields=["user"]))

    assert events.user_ids == ["late", "later", "u0", "u1", "u2", "u3"]
    assert events.user_fields[:, 0].tolist() == [UNKNOWN, UNKNOWN, *range(2, 6)]
    assert list(events.vocabulary.user["user"]) == ["u0", "u1", "u2", "u3"]
    events.vocabulary.check(events.schema)
    loaded = Vocabulary.from_bytes(events.vocabulary.to_bytes())
    assert loaded.user_ids({"user": "u1"}).tolist() == [FIRST_KNOWN + 1]


def test_user_stands_beside_the_columns_of_the_user_table(tmp_path: Path) -> None:
    users = {"user": ["u1", "u3", "late"], "age": ["30", "40", "50"]}
    pl.DataFrame(users).write_csv(tmp_path / "users.csv")
    data = {"users": "users.csv", "columns": {"user_id": "user"}}

    events = ingest_at(late_users_recipe(tmp_path, user_fields=["age", "user"], **data))

    assert [field.name for field in events.schema.user_fields] == ["age", "user"]
    assert events.user_fields[2:].tolist() == [[UNKNOWN, 2], [2, 3], [UNKNOWN, 4], [3, 5]]


def test_other_fields_still_need_the_table(tmp_path: Path) -> None:
    with pytest.raises(
        EventsError, match=r"data\.user_fields: got age, expected a log with a user table$"
    ):
        ingest_at(late_users_recipe(tmp_path, user_fields=["user", "age"]))
