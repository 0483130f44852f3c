"""From files to an artifact and its records: a log with labels, late users and item texts."""

from typing import NamedTuple

import numpy as np
import polars as pl
import pytest

from builder.dataset.parts import batch_source, part_slates
from builder.export.onnx import export
from builder.export.precompute import precompute
from builder.ingest.events import Events
from builder.train.train import train
from models.contract.artifact import Artifact, load_artifact
from models.contract.item_texts import ITEM_TEXTS
from tests.builder.logs import ingest_at, with_late_users, write_log


class Built(NamedTuple):
    """The artifact, the log and the records of a build."""

    events: Events
    artifact: Artifact


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The artifact of a small log whose items have texts and whose users have their id as a field."""
    folder = tmp_path_factory.mktemp("built")
    items = {"item_id": ["i0", "i1", "i2"], "title": ["[red]Milk\n2 l", None, "x" * 9_999]}
    pl.DataFrame(items).write_parquet(folder / "items.parquet")
    recipe = write_log(
        folder,
        with_late_users(),
        model={"name": "deep_fm"},
        train={"steps": 2, "validate_every": 1, "threads": 1},
        history={"length": 2, "recent": 1},
        data={
            "user_fields": ["user"],
            "items": "items.parquet",
            "columns": {"label": "clicked", "item_text": "title"},
        },
    )
    events = ingest_at(recipe)
    slates, source = part_slates(events, recipe, "train"), batch_source(events, recipe, "train")
    sample, _ = source.batch(slates, np.arange(8), np.random.default_rng(0))
    checkpoint = train(events, recipe)
    artifact = export(checkpoint, {}, recipe.to_dict(), events, sample, folder / "artifacts")
    return Built(events, load_artifact(folder / "artifacts", artifact.artifact_id))


def test_records_hold_what_the_model_learnt_of_each_user(built: Built) -> None:
    """Every field of a profile is in the cached state; users never seen in training share one state."""
    records = list(precompute(built.artifact, built.events, threads=1))

    assert [record.user_id for record in records] == built.events.user_ids
    assert list(built.artifact.vocabulary.user["user"]) == ["u0", "u1", "u2", "u3"]
    states = {
        record.user_id: b"".join(tensor.tobytes() for tensor in record.state.values())
        for record in records
    }
    assert states["late"] == states["later"]
    assert len(set(states.values())) == 5


def test_item_texts_travel_in_the_artifact(built: Built) -> None:
    assert built.artifact.item_texts() == {"i0": "[red]Milk 2 l", "i2": "x" * 119 + "…"}
    lines = built.artifact.file(ITEM_TEXTS).read_text().splitlines()
    assert len(lines) == len(built.artifact.vocabulary.items) == 5
