"""The user's own id as a field of its profile."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from builder.dataset.parts import batch_source, part_slates
from builder.errors import EventsError
from builder.export.onnx import export
from builder.export.precompute import precompute
from builder.recipe.recipe import Recipe
from builder.train.train import train
from models.contract.schema import FIRST_KNOWN, UNKNOWN
from models.contract.vocabulary import Vocabulary
from tests.builder.logs import ingest_at, log_frame, plain_recipe, problems_of, write_log


def with_late_users() -> pl.DataFrame:
    """The usual log with labels, whose last events are those of two users that were never there before."""
    names = ["late", "later"] * 2
    return log_frame().with_columns(
        user_id=pl.concat([log_frame()["user_id"][:36], pl.Series(names)]),
        clicked=pl.int_range(40) // 2 % 2,
    )


def recipe_of(folder: Path, **data: Any) -> Recipe:
    sections: dict[str, Any] = {
        "model": {"name": "deep_fm"},
        "train": {"steps": 2, "validate_every": 1, "threads": 1},
        "history": {"length": 2, "recent": 1},
    }
    columns = {"label": "clicked", **data.pop("columns", {})}
    return write_log(folder, with_late_users(), data={**data, "columns": columns}, **sections)


def test_user_is_an_id_of_each_user_seen_in_training(tmp_path: Path) -> None:
    events = ingest_at(recipe_of(tmp_path, user_fields=["user"]))

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

    events = ingest_at(recipe_of(tmp_path, user_fields=["age", "user"], **data))

    assert [field.name for field in events.schema.user_fields] == ["age", "user"]
    assert events.user_fields[2:].tolist() == [[UNKNOWN, 2], [2, 3], [UNKNOWN, 4], [3, 5]]


def test_other_fields_still_need_the_table(tmp_path: Path) -> None:
    with pytest.raises(EventsError, match=r"no user table, but data\.user_fields asks for age$"):
        ingest_at(recipe_of(tmp_path, user_fields=["user", "age"]))


@pytest.mark.parametrize(
    ("kind", "name"), [("item_fields", "user"), ("context_fields", "user"), ("user_fields", "item")]
)
def test_elsewhere_the_name_is_ours(kind: str, name: str) -> None:
    (problem,) = problems_of(plain_recipe(data={kind: [name]}))

    assert problem == f"data.{kind}: {name!r} is a name of ours, expected another"


def test_records_hold_what_the_model_learnt_of_each_user(tmp_path: Path) -> None:
    """Every field of a profile goes into the cache; users never seen in training share one."""
    recipe = recipe_of(tmp_path, user_fields=["user"])
    events = ingest_at(recipe)
    checkpoint = train(events, recipe)
    slates, source = part_slates(events, recipe, "train"), batch_source(events, recipe, "train")
    sample, _ = source.batch(slates, np.arange(8), np.random.default_rng(0))
    artifact = export(checkpoint, {}, recipe.to_dict(), events, sample, tmp_path / "artifacts")

    records = list(precompute(artifact, events, threads=1))

    assert [record.user_id for record in records] == events.user_ids
    assert list(artifact.vocabulary.user["user"]) == ["u0", "u1", "u2", "u3"]
    states = {
        record.user_id: b"".join(tensor.tobytes() for tensor in record.state.values())
        for record in records
    }
    assert states["late"] == states["later"]
    assert len(set(states.values())) == 5
