"""Display texts of items, from the item table or from the events."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from builder.errors import EventsError
from builder.ingest.columns import MAX_TEXT_LENGTH
from builder.ingest.events import Events
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
        "i3": "Milk", "never sold": "Tea", "i0": None, "i1": None, "i2": None, "i4": None,
    }  # fmt: skip
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
    """Of two texts the earlier; an event without a text is passed over."""
    titles = [f"title {i}" for i in range(40)]
    titles[0] = ""
    frame = log_frame().with_columns(title=pl.Series(titles))

    events = ingest_at(write_log(tmp_path, frame.reverse(), data=TITLED))

    assert texts_of(events) == {
        "i0": "title 5", "i1": "title 1", "i2": "title 2", "i3": "title 3", "i4": "title 4",
    }  # fmt: skip


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
