"""Ingest: a log becomes sorted arrays of dense ids that the training days define."""

import dataclasses
import json
import logging
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from builder.errors import EventsError
from builder.ingest.events import ARRAYS, Events
from builder.ingest.run import ingest, input_fingerprint
from models.contract.schema import FIRST_KNOWN, PADDING, UNKNOWN
from tests.builder.ingest.refusals import refusal, with_value
from tests.builder.logs import (
    NOW_S,
    START_S,
    ingest_at,
    log_frame,
    many_users,
    write_log,
)


def test_log_becomes_sorted_arrays(tmp_path: Path) -> None:
    events = ingest_at(write_log(tmp_path, log_frame(), data={"min_item_count": 1}))

    assert events.user_ids == ["u0", "u1", "u2", "u3"]
    assert events.offsets.tolist() == [0, 10, 20, 30, 40]
    assert list(events.vocabulary.items) == ["i0", "i1", "i2", "i3", "i4"]
    assert events.ts_s[:3].tolist() == [START_S, START_S + 240, START_S + 480]
    assert events.item[:3].tolist() == [2, 6, 5]
    assert set(events.label.tolist()) == {1}
    assert not events.has_impressions
    assert events.oracle is None
    events.vocabulary.check(events.schema)


def test_first_two_catalogue_rows_are_reserved(tmp_path: Path) -> None:
    events = ingest_at(write_log(tmp_path, log_frame()))

    assert (events.item_fields[PADDING] == PADDING).all()
    assert (events.item_fields[UNKNOWN] == UNKNOWN).all()
    assert events.popularity[:FIRST_KNOWN].tolist() == [0, 0]
    assert events.schema.num_items == len(events.item_fields) == 7


def test_unsorted_times_are_sorted_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    frame = log_frame()
    in_order = ingest_at(write_log(tmp_path, frame))
    assert "not sorted by time" not in caplog.text

    with caplog.at_level(logging.INFO):
        shuffled = ingest_at(write_log(tmp_path, frame.reverse()))

    assert "events.csv: events are not sorted by time; sorting" in caplog.text
    assert np.array_equal(in_order.item, shuffled.item)
    assert np.array_equal(in_order.ts_s, shuffled.ts_s)


def test_equal_times_stay_in_the_order_of_the_file(tmp_path: Path) -> None:
    frame = log_frame().with_columns(timestamp=pl.col("timestamp") // 600 * 600)

    events = ingest_at(write_log(tmp_path, frame))

    of_u0 = frame.filter(pl.col("user_id") == "u0")["item_id"].to_list()
    assert [events.vocabulary.items[row - FIRST_KNOWN] for row in events.item[:10]] == of_u0


LOGS = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 6), st.integers(0, 50)), min_size=20, max_size=60
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(LOGS)
def test_any_log_is_kept_whole_and_sorted(tmp_path: Path, rows: list[tuple[int, int, int]]) -> None:
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    recipe = write_log(tmp_path, frame)
    try:
        events = ingest_at(recipe)
    except EventsError as error:
        reject = "got 1 distinct item" in str(error) or "got no target to" in str(error)
        assume(not reject)
        raise

    users = np.repeat(events.user_ids, np.diff(events.offsets))
    items = np.array(events.vocabulary.items)[events.item - FIRST_KNOWN]
    kept = zip(users.tolist(), items.tolist(), events.ts_s.tolist(), strict=True)
    assert sorted(kept) == sorted((str(user), str(item), ts) for user, item, ts in rows)
    assert (np.diff(events.offsets) > 0).all()
    for begin, end in zip(events.offsets, events.offsets[1:], strict=False):
        assert (np.diff(events.ts_s[begin:end]) >= 0).all()
    for column, field in enumerate(events.schema.item_fields):
        assert events.item_fields[:, column].max() < field.size
    assert events.train_popularity.sum() == (events.ts_s < events.split.validate_from_s).sum()


def test_saved_events_load_as_they_were(tmp_path: Path) -> None:
    rule = {"validate_users": 0.3, "test_users": 0.3, "last_only": True}
    frame = many_users()
    events = ingest_at(write_log(tmp_path, frame, data={"context_fields": ["hour"]}, split=rule))

    events.save(tmp_path / "events")
    loaded = Events.load(tmp_path / "events")

    for name in ARRAYS:
        assert np.array_equal(getattr(events, name), getattr(loaded, name)), name
        assert getattr(events, name).dtype == getattr(loaded, name).dtype, name
    rest = [field.name for field in dataclasses.fields(events) if field.name not in ARRAYS]
    for name in rest:
        assert getattr(events, name) == getattr(loaded, name), name


def test_values_of_the_test_days_are_unknown(tmp_path: Path) -> None:
    late = [f"d{int(i >= 36)}" for i in range(40)]
    frame = log_frame().with_columns(pl.Series("device", late))
    frame = frame.with_columns(
        item_id=pl.when(pl.int_range(40) >= 38).then(pl.lit("new")).otherwise("item_id")
    )

    events = ingest_at(write_log(tmp_path, frame, data={"context_fields": ["device"]}))

    assert list(events.vocabulary.context["device"]) == ["d0"]
    assert sorted(events.context[:, 0].tolist()) == [UNKNOWN] * 4 + [FIRST_KNOWN] * 36
    row = events.vocabulary.item_rows(["new"])[0]
    assert row >= FIRST_KNOWN
    assert events.item_fields[row].tolist() == [UNKNOWN, FIRST_KNOWN]
    assert (events.train_popularity[row], events.popularity[row]) == (0, 2)


def test_rare_items_share_the_unknown_id_and_keep_their_fields(tmp_path: Path) -> None:
    frame = log_frame().with_columns(
        item_id=pl.when(pl.int_range(40) == 3).then(pl.lit("rare")).otherwise("item_id")
    )
    items = pl.DataFrame(
        {"item_id": ["rare", "i0", "i1", "i2", "i3", "i4"], "brand": list("aabbcc")}
    )
    items.write_csv(tmp_path / "items.csv")
    data = {"items": "items.csv", "item_fields": ["brand"], "category": "brand"}

    events = ingest_at(write_log(tmp_path, frame, data={**data, "min_item_count": 2}))

    names = [field.name for field in events.schema.item_fields]
    assert names == ["item", "brand", "popularity"]
    rare, often = events.vocabulary.item_rows(["rare", "i0"])
    assert events.item_fields[rare].tolist() == [UNKNOWN, 2, FIRST_KNOWN + 1]
    assert events.item_fields[often, 0] >= FIRST_KNOWN
    assert events.schema.item_fields[0].size == 5 + FIRST_KNOWN
    assert events.category[rare] == events.category[often] == 2


def test_popularity_is_a_power_of_two_bucket_of_training_events(tmp_path: Path) -> None:
    counts = {"once": 1, "two": 2, "three": 3, "four": 4, "eight": 8}
    names = [name for name, count in counts.items() for _ in range(count)] + ["eight"] * 6
    frame = pl.DataFrame(
        {"user_id": "u", "item_id": names, "timestamp": [START_S + i for i in range(24)]}
    )

    # 24 events: training ends before the 19th, which is the first of the last six.
    events = ingest_at(write_log(tmp_path, frame, split={"validate_from": 0.75, "test_from": 0.9}))

    rows = events.vocabulary.item_rows(list(counts))
    assert events.train_popularity[rows].tolist() == list(counts.values())
    assert (events.item_fields[rows, -1] - FIRST_KNOWN).tolist() == [1, 2, 2, 3, 4]
    assert events.item_fields[rows, 0].tolist() == [UNKNOWN, UNKNOWN, 4, 3, 2]


def test_catalogue_is_the_table_then_what_only_events_know(tmp_path: Path) -> None:
    pl.DataFrame({"id": ["z", "i1"], "brand": ["a", None]}).write_csv(tmp_path / "items.csv")
    data = {"items": "items.csv", "item_fields": ["brand"], "columns": {"item_id": "id"}}

    events = ingest_at(write_log(tmp_path, log_frame(), data=data))

    assert list(events.vocabulary.items) == ["z", "i1", "i0", "i2", "i3", "i4"]
    assert (events.item_fields[2:, 1] == UNKNOWN).all()  # z was never sold, i1 has no brand


def test_brand_that_is_sold_in_the_test_days_only_is_unknown(tmp_path: Path) -> None:
    late = pl.when(pl.int_range(40) >= 36).then(pl.lit("late")).otherwise("item_id")
    items = {"item_id": ["i0", "i1", "i2", "i3", "i4", "late"], "brand": list("aaaaab")}
    pl.DataFrame(items).write_csv(tmp_path / "items.csv")
    data = {"items": "items.csv", "item_fields": ["brand"]}

    events = ingest_at(write_log(tmp_path, log_frame().with_columns(item_id=late), data=data))

    assert events.item_fields[2:, 1].tolist() == [FIRST_KNOWN] * 5 + [UNKNOWN]


def test_item_fields_may_be_columns_of_the_events(tmp_path: Path) -> None:
    brands = [f"b{i % 5}" for i in range(35)] + ["late"] * 5
    frame = log_frame().with_columns(pl.Series("brand", brands))

    recipe = write_log(tmp_path, frame.reverse(), data={"item_fields": ["brand"]})
    events = ingest_at(recipe)

    assert events.item_fields[2:, 1].tolist() == [2, 3, 4, 5, 6]


def test_users_without_a_profile_are_unknown(tmp_path: Path) -> None:
    pl.DataFrame({"user_id": ["u1", "u9"], "age": [30.0, 99.0]}).write_parquet(
        tmp_path / "users.parquet"
    )
    data = {"users": "users.parquet", "user_fields": ["age"]}

    events = ingest_at(write_log(tmp_path, log_frame(), data=data))

    assert events.user_fields[:, 0].tolist() == [UNKNOWN, FIRST_KNOWN, UNKNOWN, UNKNOWN]
    assert list(events.vocabulary.user["age"]) == ["30"]
    assert events.vocabulary.user_ids({"age": 30}).tolist() == [FIRST_KNOWN]


def test_numbers_with_a_fraction_are_written_as_python_does(tmp_path: Path) -> None:
    users = pl.DataFrame({"user_id": ["u1", "u2"], "age": [30.0, 30.5], "is_member": [True, False]})
    users.write_parquet(tmp_path / "users.parquet")
    data = {"users": "users.parquet", "user_fields": ["age", "is_member"]}

    values = ingest_at(write_log(tmp_path, log_frame(), data=data)).vocabulary.user

    assert values == {"age": [str(30.0), str(30.5)], "is_member": [str(False), str(True)]}


def test_hour_and_weekday_are_utc(tmp_path: Path) -> None:
    # 2020-09-13 12:26:40 UTC was a Sunday.
    events = ingest_at(
        write_log(tmp_path, log_frame(), data={"context_fields": ["weekday", "hour"]})
    )

    assert dict(events.vocabulary.context) == {"weekday": ["6"], "hour": ["12"]}
    assert events.context[0].tolist() == [FIRST_KNOWN, FIRST_KNOWN]
    assert events.context[-1].tolist() == [FIRST_KNOWN, UNKNOWN]  # 13:05 is no training time


def test_last_target_needs_the_history_too(tmp_path: Path) -> None:
    rule = {"last_only": True, "validate_from": 0.5, "test_from": 0.75}
    ingest_at(write_log(tmp_path, log_frame(), split=rule, history={"min_events": 9}))

    text = refusal(tmp_path, log_frame(), split=rule, history={"min_events": 10})

    assert "a user's last positive with history.min_events = 10 events before it" in text


def test_time_within_a_day_from_now_is_a_clock_that_runs_ahead(tmp_path: Path) -> None:
    frame = with_value("timestamp", 39, str(int(NOW_S) + 80_000))

    events = ingest_at(write_log(tmp_path, frame, split={"validate_from": 0.5, "test_from": 0.7}))

    assert events.ts_s.max() == NOW_S + 80_000


def test_input_fingerprint_sees_a_replaced_file(tmp_path: Path) -> None:
    recipe = write_log(tmp_path, log_frame())
    before = input_fingerprint(recipe)
    assert input_fingerprint(recipe) == before

    write_log(tmp_path, log_frame(41))

    assert input_fingerprint(recipe) != before


def test_ingest_takes_the_time_from_the_clock(tmp_path: Path) -> None:
    recipe = write_log(tmp_path, with_value("timestamp", 39, "4000000000"))

    with pytest.raises(EventsError, match="got a time in the future"):
        ingest(recipe)


def test_events_saved_before_users_could_be_split_still_load(tmp_path: Path) -> None:
    events = ingest_at(write_log(tmp_path, log_frame()))
    events.save(tmp_path / "events")
    saved = json.loads((tmp_path / "events" / "events.json").read_text())
    for key in ("validate_users", "test_users", "last_only", "validate_events", "test_events"):
        del saved["split"][key]
    (tmp_path / "events" / "events.json").write_text(json.dumps(saved))

    assert Events.load(tmp_path / "events").split == events.split
