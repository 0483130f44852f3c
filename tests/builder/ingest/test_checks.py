"""Logs without times: no event is before another, so nothing is a history and nothing is cut by time."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from builder.dataset.batches import Part, find_slates
from builder.dataset.parts import batch_source, part_slates
from builder.errors import EventsError
from builder.recipe.recipe import Recipe, recipe_from
from models.contract.schema import FIRST_KNOWN
from tests.builder.logs import ingest_at, plain_recipe, write_log

BY_EVENT = {"validate_events": 0.2, "test_events": 0.2}
PARTS: tuple[Part, ...] = ("train", "validate", "test")
FRAME = pl.DataFrame(
    [(f"u{user}", f"i{item}", (user + item) % 5 + 1) for user in range(20) for item in range(15)],
    schema=["user_id", "item_id", "stars"],
    orient="row",
)
DATA: dict[str, Any] = {"positive_from": 4, "columns": {"time": "", "label": "stars"}}


def files(folder: Path, split: dict[str, Any] = BY_EVENT, **sections: Any) -> Recipe:
    return write_log(folder, FRAME, split=split, **{"data": DATA, **sections})


def movielens(folder: Path, **sections: Any) -> Recipe:
    """The converted folder, whose ratings lack the time."""
    number = pl.all().str.slice(1).cast(pl.Int32)
    ids = FRAME.select("user_id", "item_id").select(number)
    ratings = ids.with_columns(FRAME["stars"]).rename({"item_id": "movie_id", "stars": "rating"})
    ratings.write_parquet(folder / "ratings.parquet")
    items = {
        "movie_id": range(15),
        "title": [f"M (19{i + 10})" for i in range(15)],
        "genres": "A|B",
    }
    pl.DataFrame(items).write_parquet(folder / "items.parquet")
    values = plain_recipe(**{"split": BY_EVENT, **sections})
    values["data"] = {
        "source": "movielens",
        "path": str(folder),
        "context_fields": [],
        "positive_from": 4,
        **sections.get("data", {}),
    }
    return recipe_from(values, folder / "recipe.toml")


LOGS = {"files": files, "movielens": movielens}
each_log = pytest.mark.parametrize("log", LOGS.values(), ids=LOGS)


@each_log
def test_all_events_are_at_one_time(tmp_path: Path, log: Any) -> None:
    events = ingest_at(log(tmp_path))

    assert set(events.ts_s.tolist()) == {0}
    assert len(events.item) == len(FRAME)
    assert sorted(np.diff(events.offsets).tolist()) == [15] * 20
    assert events.label.sum() == (FRAME["stars"] >= 4).sum()


@each_log
def test_slates_are_events_of_a_user_and_histories_are_empty(tmp_path: Path, log: Any) -> None:
    recipe = log(tmp_path, train={"positives_per_slate": 4})
    events = ingest_at(recipe)
    seen: list[int] = []

    for name in PARTS:
        slates = part_slates(events, recipe, name)
        batch, targets = batch_source(events, recipe, name).batch(
            slates, np.arange(len(slates)), np.random.default_rng(0)
        )
        seen += targets.event[targets.mask].tolist()
        assert batch.user.history.max() == 0
        assert batch.context.recent.max() == 0
        of_user = np.bincount(np.repeat(np.arange(20), 15)[events.parts() == PARTS.index(name)])
        assert np.bincount(slates.user).tolist() == (-(-of_user // 4)).tolist()

    assert sorted(seen) == list(range(len(FRAME)))


def test_a_split_by_user_needs_no_times_either(tmp_path: Path) -> None:
    events = ingest_at(files(tmp_path, {"validate_users": 0.3, "test_users": 0.3}))

    found = [find_slates(events, name, min_events=0, max_events=99) for name in PARTS]
    assert sum(map(len, found)) == events.num_users


@each_log
@pytest.mark.parametrize(
    "split",
    [
        {},
        {"validate_from": 0.5},
        {"train_from_day": 0, "validate_from_day": 1, "test_from_day": 2},
        {"last_only": True},
    ],
    ids=str,
)
def test_a_split_by_time_is_refused(tmp_path: Path, log: Any, split: dict[str, Any]) -> None:
    words = r"the log has no times; split: got a split by time, expected split\.validate_events and split\.test_events"
    with pytest.raises(EventsError, match=words):
        ingest_at(log(tmp_path, split=split))


@each_log
def test_everything_that_needs_a_time_is_named_at_once(tmp_path: Path, log: Any) -> None:
    data = {"context_fields": ["hour", "weekday"], **(DATA if log is files else {})}
    negatives = {"own_past": 0.5, "window_hours": 24, "same_category": 0, "popularity_power": 1}
    recipe = log(tmp_path, split={}, history={"min_events": 3}, data=data, negatives=negatives)

    with pytest.raises(EventsError) as caught:
        ingest_at(recipe)

    for words in (
        "data.context_fields: got 'hour', which comes from the time",
        "data.context_fields: got 'weekday', which comes from the time",
        "split: got a split by time",
        "history.min_events: got 3, expected 0: without times there is no history",
        "negatives.own_past: got 0.5, expected 0",
        "negatives.window_hours: got 24, expected it unset",
    ):
        assert words in str(caught.value)


def test_other_context_is_welcome(tmp_path: Path) -> None:
    frame = FRAME.with_columns(device=pl.format("d{}", pl.int_range(len(FRAME)) % 3))
    data = DATA | {"context_fields": ["device"]}

    events = ingest_at(write_log(tmp_path, frame, split=BY_EVENT, data=data))

    assert list(events.vocabulary.context["device"]) == ["d0", "d1", "d2"]
    slates = find_slates(events, "train", min_events=0, max_events=8)
    for begin, end in zip(slates.begin, slates.end, strict=True):
        assert len(set(events.context[begin:end, 0].tolist())) == 1
    assert events.item.min() >= FIRST_KNOWN
