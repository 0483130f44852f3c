"""Cleaning: display texts of items, and ratings between the two limits, which are dropped."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from builder.errors import EventsError
from builder.ingest.columns import MAX_TEXT_LENGTH
from builder.ingest.events import Events
from models.contract.schema import FIRST_KNOWN
from tests.builder.logs import ingest_at, log_frame, write_log

TITLED: dict[str, Any] = {"columns": {"item_text": "title"}}


def texts_of(events: Events) -> dict[str, str | None]:
    assert events.item_texts is not None
    return dict(zip(events.vocabulary.items, events.item_texts, strict=True))


def with_items(folder: Path, titles: dict[str, Any]) -> dict[str, Any]:
    """The data section of a log whose item table has these titles."""
    items = {"item_id": list(titles), "title": list(titles.values())}
    pl.DataFrame(items, strict=False).write_parquet(folder / "items.parquet")
    return {"items": "items.parquet", **TITLED}


def test_text_of_each_item_comes_from_the_item_table(tmp_path: Path) -> None:
    data = with_items(tmp_path, {"i3": "Milk", "never sold": "Tea", "i0": None, "i1": " "})

    events = ingest_at(write_log(tmp_path, log_frame(), data=data))

    assert texts_of(events) == {
        "i3": "Milk",
        "never sold": "Tea",
        "i0": None,
        "i1": None,
        "i2": None,
        "i4": None,
    }
    assert [field.name for field in events.schema.item_fields] == ["item", "popularity"]


@pytest.mark.parametrize(
    ("title", "text"),
    [
        ("  two\nlines\tand\x1b[31m a\x00 colour ", "two lines and [31m a colour"),
        ("reversed \u202egnp.exe", "reversed gnp.exe"),
        ("new\u2028line\x85here", "new line here"),
        ("日本の👩\u200d🌾", "日本の👩\u200d🌾"),
        ("é" * MAX_TEXT_LENGTH, "é" * MAX_TEXT_LENGTH),
        ("é" * 100_000, "é" * (MAX_TEXT_LENGTH - 1) + "…"),
        ("\x07\n", None),
    ],
    ids=["controls", "bidi", "separators", "joiner", "longest", "too long", "nothing left"],
)
def test_texts_are_cleaned_and_cut(tmp_path: Path, title: str, text: str | None) -> None:
    data = with_items(tmp_path, {"i0": title})

    assert texts_of(ingest_at(write_log(tmp_path, log_frame(), data=data)))["i0"] == text


def test_numbers_are_texts_too(tmp_path: Path) -> None:
    data = with_items(tmp_path, {"i0": 7.0, "i1": None})

    assert texts_of(ingest_at(write_log(tmp_path, log_frame(), data=data)))["i0"] == "7"


def test_without_an_item_table_the_first_text_of_an_item_counts(tmp_path: Path) -> None:
    """The earlier of two texts is taken; events without a text are skipped."""
    titles = [f"title {i}" for i in range(40)]
    titles[0] = ""
    frame = log_frame().with_columns(title=pl.Series(titles))

    events = ingest_at(write_log(tmp_path, frame.reverse(), data=TITLED))

    assert texts_of(events) == {
        "i0": "title 5",
        "i1": "title 1",
        "i2": "title 2",
        "i3": "title 3",
        "i4": "title 4",
    }


def test_a_log_without_texts_has_none(tmp_path: Path) -> None:
    events = ingest_at(write_log(tmp_path, log_frame()))

    assert events.item_texts is None
    events.save(tmp_path / "events")
    assert Events.load(tmp_path / "events").item_texts is None


def test_texts_are_saved_with_the_events(tmp_path: Path) -> None:
    data = with_items(tmp_path, {"i0": "Milk", "i1": None})
    events = ingest_at(write_log(tmp_path, log_frame(), data=data))

    events.save(tmp_path / "events")

    assert Events.load(tmp_path / "events").item_texts == events.item_texts


def test_a_missing_text_column_is_named(tmp_path: Path) -> None:
    data = with_items(tmp_path, {"i0": "Milk"}) | {"columns": {"item_text": "titel"}}

    with pytest.raises(EventsError, match=r"items\.parquet: .*'titel'; did you mean 'title'"):
        ingest_at(write_log(tmp_path, log_frame(), data=data))


LIMITS: dict[str, Any] = {"positive_from": 4, "negative_to": 2, "columns": {"label": "stars"}}


def rated(stars: list[float]) -> pl.DataFrame:
    return log_frame().with_columns(stars=pl.Series(stars * (40 // len(stars))))


def test_ratings_between_the_limits_are_dropped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    frame = rated([1.0, 4.0, 5.0, 3.0, 2.0])

    with caplog.at_level(logging.INFO):
        events = ingest_at(write_log(tmp_path, frame, data=LIMITS))

    assert "events.csv: dropped 8 of 40 events, with ratings between 2 and 4" in caplog.text
    items = np.array(events.vocabulary.items)[events.item - FIRST_KNOWN].tolist()
    users = np.repeat(events.user_ids, np.diff(events.offsets)).tolist()
    kept = frame.filter(pl.col("stars") != 3).sort("user_id", maintain_order=True)
    assert list(zip(users, items, events.label.tolist(), strict=True)) == [
        (user, item, int(stars >= 4))
        for user, item, stars in kept["user_id", "item_id", "stars"].iter_rows()
    ]
    assert "i3" not in events.vocabulary.items  # only ever rated 3
    assert events.popularity.sum() == 32


def test_limits_themselves_are_kept(tmp_path: Path) -> None:
    events = ingest_at(write_log(tmp_path, rated([2.0, 4.0, 2.5, 3.5, 4.5]), data=LIMITS))

    assert len(events.label) == 24
    assert events.label.sum() == 16


def test_without_the_lower_limit_nothing_is_dropped(tmp_path: Path) -> None:
    data = {key: value for key, value in LIMITS.items() if key != "negative_to"}

    events = ingest_at(write_log(tmp_path, rated([1.0, 4.0, 5.0, 3.0, 2.0]), data=data))

    assert len(events.label) == 40
    assert events.label.sum() == 16


def test_log_of_neutral_ratings_only_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EventsError, match=r"events: got only ratings between data\.negative_to"):
        ingest_at(write_log(tmp_path, rated([3.0]), data=LIMITS))


def test_repeats_are_dropped_and_the_first_event_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    frame = pl.concat([log_frame(), log_frame().with_columns(pl.col("timestamp") + 9_999)])

    with caplog.at_level(logging.INFO):
        events = ingest_at(write_log(tmp_path, frame, data={"drop_repeats": True}))

    assert "events.csv: dropped 60 of 80 events, repeats of a user's item" in caplog.text
    pairs = list(zip(events.users().tolist(), events.item.tolist(), strict=True))
    assert len(pairs) == len(set(pairs)) == 20  # four users, five items
    assert events.ts_s.max() == frame["timestamp"][19]


def test_returns_are_dropped_and_a_missing_quantity_is_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    quantity = pl.Series([2, -1, 0, None] * 10)
    frame = log_frame().with_columns(count=quantity)

    with caplog.at_level(logging.INFO):
        events = ingest_at(write_log(tmp_path, frame, data={"columns": {"quantity": "count"}}))

    assert "events.csv: dropped 20 of 40 events, with a quantity of 0 or less" in caplog.text
    assert events.user_ids == ["u0", "u3"]
    assert events.popularity.sum() == 20


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (["two", "1"], "column 'count': got a value that is not a number in 20 of 40 rows"),
        ([0, -3], "events: got only quantities of 0 or less (data.columns.quantity)"),
    ],
)
def test_quantities_that_are_no_use_are_refused(
    tmp_path: Path, values: list[Any], words: str
) -> None:
    frame = log_frame().with_columns(count=pl.Series(values * 20))

    with pytest.raises(EventsError) as caught:
        ingest_at(write_log(tmp_path, frame, data={"columns": {"quantity": "count"}}))

    assert words in str(caught.value)
