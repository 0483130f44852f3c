"""Logs with known candidates: files become pools, faults are named, and what training may not know stays unknown."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from builder.dataset.parts import batch_source, part_slates
from builder.errors import EventsError
from builder.ingest.events import Events
from builder.ingest.run import input_fingerprint
from models.contract.schema import FIRST_KNOWN, UNKNOWN
from tests.builder.logs import START_S, ingest_at, plain_recipe, problems_of
from tests.builder.pool_logs import DAYS, POOLS, WEEK_S, offers, purchases, write_pools


def refusal(folder: Path, log: pl.DataFrame, shown: pl.DataFrame, **sections: Any) -> str:
    with pytest.raises(EventsError) as caught:
        ingest_at(write_pools(folder, log, shown, **sections))
    return str(caught.value)


def pool_of(events: Events) -> list[int]:
    """Pool of each event."""
    assert events.event_pool is not None
    return [int(pool) for pool in events.event_pool]


def items_of(events: Events, rows: np.ndarray) -> list[str]:
    return [events.vocabulary.items[row - FIRST_KNOWN] for row in rows]


def test_slates_are_baskets_and_candidates_what_was_on_offer(tmp_path: Path) -> None:
    recipe = write_pools(tmp_path)
    events = ingest_at(recipe)
    slates, source = part_slates(events, recipe, "test"), batch_source(events, recipe, "test")

    batch, targets = source.whole(slates, np.arange(len(slates)))

    log, shown = purchases(), offers()
    assert len(slates) == 24 * 2 * 2 - 2, "store 9 has no offers"
    for row in range(len(slates)):
        time_s = int(events.ts_s[slates.begin[row]])
        user = events.user_ids[slates.user[row]]
        basket = log.filter((pl.col("user_id") == user) & (pl.col("timestamp") == time_s))
        offered = shown.join(basket.select("store", "week").unique(), on=["store", "week"])
        mask = targets.mask[row]
        assert sorted(items_of(events, targets.items[row][mask])) == sorted(offered["item_id"])
        bought = items_of(events, targets.items[row][mask & (targets.label[row] > 0)])
        assert set(bought) == set(offered["item_id"]) & set(basket["item_id"])
        places = dict(zip(offered["item_id"], offered["placement"], strict=True))
        ids = batch.slate.fields[row, :, 0][mask].numpy()
        known = events.vocabulary.candidate["placement"]
        seen = [known[place - FIRST_KNOWN] for place in ids]
        assert seen == [places[item] for item in items_of(events, targets.items[row][mask])]


def test_pools_that_no_slate_uses_are_left_out_and_the_rest_is_small(tmp_path: Path) -> None:
    events = ingest_at(write_pools(tmp_path))

    assert events.pools is not None
    assert events.event_pool is not None
    assert len(events.pools.sizes) == 2 * 8
    assert events.pools.fields.dtype == np.uint8
    before = events.ts_s < START_S + 14 * 86_400
    assert (events.event_pool[before] == -1).all()
    assert set(events.event_pool[~before].tolist()) == {-1, *range(16)}


def test_saved_pools_load_as_they_were(tmp_path: Path) -> None:
    events = ingest_at(write_pools(tmp_path))

    events.save(tmp_path / "events")
    loaded = Events.load(tmp_path / "events")

    assert loaded.schema == events.schema
    assert loaded.schema.candidate_fields[0].name == "placement"
    assert loaded.vocabulary == events.vocabulary
    assert pool_of(loaded) == pool_of(events)
    for name in ("first", "item", "fields"):
        assert np.array_equal(getattr(loaded.pools, name), getattr(events.pools, name))
        assert getattr(loaded.pools, name).dtype == getattr(events.pools, name).dtype


def test_a_log_without_pools_is_saved_without(tmp_path: Path) -> None:
    events = ingest_at(write_pools(tmp_path, data={"pools": None, "candidate_fields": []}))

    events.save(tmp_path / "events")
    loaded = Events.load(tmp_path / "events")

    assert (events.pools, events.event_pool, loaded.pools, loaded.event_pool) == (None,) * 4
    assert not list((tmp_path / "events").glob("*pool*"))


def test_values_that_training_does_not_show_are_unknown(tmp_path: Path) -> None:
    late = offers().with_columns(
        placement=pl.when(pl.col("week") < 6).then("placement").otherwise(pl.lit("window"))
    )
    events = ingest_at(write_pools(tmp_path, shown=late))

    assert list(events.vocabulary.candidate["placement"]) == ["aisle", "end", "front"]
    assert events.pools is not None
    assert (events.pools.fields == UNKNOWN).sum() == 2 * 4 * 15


def test_popularity_is_that_before_training(tmp_path: Path) -> None:
    """An item that only training sells must not be known by its popularity."""
    cut_s = START_S + DAYS["train_from_day"] * 86_400
    log = purchases().with_columns(
        item_id=pl.when((pl.col("item_id") == "i7") & (pl.col("timestamp") < cut_s))
        .then(pl.lit("i8"))
        .otherwise("item_id")
    )
    events = ingest_at(write_pools(tmp_path, log))

    row = events.vocabulary.items.index("i7") + FIRST_KNOWN
    assert events.train_popularity[row] > 0
    assert events.item_values["popularity"][events.item_fields[row, -1] - FIRST_KNOWN] == "0"


def test_keys_of_other_types_are_the_same_pools(tmp_path: Path) -> None:
    """A store is 1 in one file and 1.0 in the other."""
    events = ingest_at(write_pools(tmp_path))
    (tmp_path / "events.csv").unlink()
    purchases().cast({"store": pl.Float64}).write_parquet(tmp_path / "events.parquet")
    again = ingest_at(write_pools(tmp_path, data={"events": "events.parquet"}, split=DAYS))

    assert pool_of(events) == pool_of(again)


def test_a_repeated_item_counts_once_with_its_first_row(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    once = ingest_at(write_pools(tmp_path))
    other = offers().with_columns(placement=pl.lit("front"))
    with caplog.at_level(logging.INFO):
        twice = ingest_at(write_pools(tmp_path, shown=pl.concat([offers(), other])))

    assert "offers.csv: 240 rows repeat an item of a pool; the first counts" in caplog.text
    assert twice.pools is not None
    assert once.pools is not None
    assert np.array_equal(once.pools.item, twice.pools.item)
    assert np.array_equal(once.pools.fields, twice.pools.fields)


def test_events_without_a_pool_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = purchases().with_columns(week=pl.when(pl.col("week") != 7).then("week"))
    num_lost = ((log["store"] == 9) | log["week"].is_null()).sum()

    with caplog.at_level(logging.INFO):
        events = ingest_at(write_pools(tmp_path, log))

    assert f"events.csv: {num_lost} of {len(log)} events name no pool of offers.csv" in caplog.text
    week = events.ts_s // WEEK_S - START_S // WEEK_S
    assert len(set(week[np.asarray(events.event_pool) >= 0].tolist())) >= 7


def test_faults_are_named(tmp_path: Path) -> None:
    log, shown = purchases(), offers()
    for changed, expected in [
        ((log, shown.drop("week")), "offers.csv: no column 'week'"),
        ((log.drop("store"), shown), "events.csv: no column 'store'"),
        ((log, shown.drop("placement")), "offers.csv: no column 'placement'"),
        (
            (log, shown.with_columns(week=pl.when(pl.col("week") > 0).then("week"))),
            "offers.csv: column 'week': got no value in 30 of 300 rows",
        ),
        (
            (log, shown.with_columns(week=pl.col("week") + 100)),
            "columns store, week: got no event that names a pool of offers.csv",
        ),
        (
            (log, shown.with_columns(item_id=pl.lit("zebra"))),
            "offers.csv: items: got 240 of 240 rows with an item that is not in the catalogue (first: 'zebra')",
        ),
    ]:
        assert expected in refusal(tmp_path, *changed)


def test_a_part_without_a_purchase_from_its_pools_is_refused(tmp_path: Path) -> None:
    shown = offers().filter(pl.col("week") < 8)

    assert "got no target to test on" in refusal(tmp_path, purchases(), shown)


def test_recipes_that_contradict_themselves_are_refused() -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"data": {"candidate_fields": ["price"]}}, "data.pools: missing, expected the file"),
        (
            {"data": {"pools": POOLS, "columns": {"label": "clicked"}}},
            "data.columns.label: got 'clicked' beside data.pools",
        ),
        ({"data": {"pools": {"file": "x.csv", "key": []}}}, "data.pools.key: got []"),
        ({"data": {"pools": {"file": "x.csv"}}}, "data.pools.key: missing, expected a list"),
        (
            {
                "data": {"pools": POOLS},
                "split": {"validate_events": 0.1, "test_events": 0.1},
            },
            "split.test_events: got a split by event",
        ),
        ({"sampling": {"with_positives": 1.0}}, "sampling.with_positives: got 1.0"),
        (
            {"data": {"pools": POOLS, "candidate_fields": ["price", "price"]}},
            "data.candidate_fields: got 'price' twice",
        ),
        (
            {"data": {"source": "movielens", "pools": POOLS, "path": "x"}},
            "data.pools: got a key that source 'movielens' does not read",
        ),
    ]
    for sections, expected in cases:
        values = plain_recipe(**sections)
        if values["data"]["source"] != "files":
            del values["data"]["events"]
        problems = problems_of(values)
        assert any(expected in problem for problem in problems), (expected, problems)


def test_a_replaced_file_of_pools_is_another_input(tmp_path: Path) -> None:
    recipe = write_pools(tmp_path)
    before = input_fingerprint(recipe)

    offers(seed=2).head(100).write_csv(tmp_path / "offers.csv")

    assert input_fingerprint(recipe) != before
