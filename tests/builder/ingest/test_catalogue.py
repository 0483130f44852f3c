"""What the ids of the item fields stand for is kept beside the events."""

from pathlib import Path

import polars as pl
import pytest

from builder.ingest.events import Events
from models.contract.schema import FIRST_KNOWN, UNKNOWN
from tests.builder.logs import START_S, ingest_at, log_frame, write_log

BRANDS = {"i0": "Zoë", "i1": "a", "i2": None, "i3": "a", "i4": "b", "never": "c"}


@pytest.fixture
def events(tmp_path: Path) -> Events:
    items = {"item_id": list(BRANDS), "brand": list(BRANDS.values())}
    pl.DataFrame(items).write_parquet(tmp_path / "items.parquet")
    rare = pl.when(pl.int_range(40) == 3).then(pl.lit("rare")).otherwise("item_id")
    data = {"items": "items.parquet", "item_fields": ["brand"], "min_item_count": 2}
    return ingest_at(write_log(tmp_path, log_frame().with_columns(item_id=rare), data=data))


def test_every_id_of_every_field_has_its_value(events: Events) -> None:
    values = events.item_values

    assert [(name, len(known) + FIRST_KNOWN) for name, known in values.items()] == [
        (field.name, field.size) for field in events.schema.item_fields
    ]
    for row, item in enumerate(events.vocabulary.items, FIRST_KNOWN):
        own, brand, bucket = events.item_fields[row].tolist()
        assert own == UNKNOWN or values["item"][own - FIRST_KNOWN] == item
        expected = None if item == "never" else BRANDS.get(item)
        assert (values["brand"][brand - FIRST_KNOWN] if brand != UNKNOWN else None) == expected
        low, _, high = values["popularity"][bucket - FIRST_KNOWN].partition("-")
        assert int(low) <= events.train_popularity[row] <= int(high or low)


def test_rare_items_are_not_among_those_with_an_id(events: Events) -> None:
    assert events.item_values["item"] == ["i0", "i1", "i2", "i3", "i4"]
    assert events.item_values["brand"] == ["Zoë", "a", "b"]


def test_popularity_is_written_as_counts(tmp_path: Path) -> None:
    names = ["a"] * 9 + ["b"] * 2 + ["c"]
    log = {"user_id": "u", "item_id": names, "timestamp": [START_S + i for i in range(12)]}

    split = {"validate_from": 0.8, "test_from": 0.92}
    events = ingest_at(write_log(tmp_path, pl.DataFrame(log), split=split))

    assert events.train_popularity[FIRST_KNOWN:].tolist() == [9, 0, 0]
    assert events.item_values["popularity"] == ["0", "1", "2-3", "4-7", "8-15"]


def test_item_values_are_saved_and_may_be_absent(events: Events, tmp_path: Path) -> None:
    events.save(tmp_path / "events")

    assert Events.load(tmp_path / "events").item_values == events.item_values
    (tmp_path / "events" / "item_values.json").unlink()
    assert Events.load(tmp_path / "events").item_values == {}
