"""Ingest: a log becomes sorted arrays of dense ids that the training days define; errors name the place."""

import dataclasses
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from builder.errors import EventsError
from builder.ingest.events import ARRAYS, Events
from builder.ingest.run import ingest, input_fingerprint
from builder.recipe.recipe import Recipe
from models.contract.schema import FIRST_KNOWN, PADDING, UNKNOWN
from models.contract.vocabulary import Vocabulary
from tests.builder.logs import (
    NOW_S,
    START_S,
    ingest_at,
    log_frame,
    many_users,
    small_recipe,
    with_late_users,
    write_log,
)


def refusal(folder: Path, frame: pl.DataFrame, **sections: Any) -> str:
    with pytest.raises(EventsError) as caught:
        ingest_at(write_log(folder, frame, **sections))
    return str(caught.value)


def with_value(column: str, row: int, value: Any) -> pl.DataFrame:
    """The usual log as text, with one value replaced."""
    frame = log_frame().cast(pl.String)
    values = frame[column].to_list()
    values[row] = value
    return frame.with_columns(pl.Series(column, values))


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


@pytest.mark.parametrize("kind", ["s", "ms", "us", "ns", "datetime", "zoned", "date", "text"])
def test_times_are_read_in_every_form(tmp_path: Path, kind: str) -> None:
    frame = log_frame().with_columns(
        timestamp=START_S // 86_400 * 86_400 + pl.int_range(40) * 86_400
    )
    expected = frame["timestamp"]
    time = pl.from_epoch("timestamp", time_unit="s")
    forms = {
        "datetime": time,
        "zoned": time.dt.replace_time_zone("UTC").dt.convert_time_zone("Asia/Tokyo"),
        "date": time.dt.date(),
        "text": time.dt.to_string("iso"),
    }
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}.get(kind, 1)
    frame = frame.with_columns(timestamp=forms.get(kind, pl.col("timestamp") * per_second))
    frame.write_parquet(tmp_path / "events.parquet")
    unit = {"time_unit": kind} if kind in ("s", "ms", "us", "ns") else {}

    events = ingest_at(small_recipe(tmp_path, data={"events": "events.parquet", **unit}))

    assert sorted(events.ts_s.tolist()) == expected.to_list()


@pytest.mark.parametrize(
    ("text", "second"),
    [
        ("2020-09-13T12:26:40Z", START_S),
        ("2020-09-13 12:26:40.75", START_S),
        ("2020-09-13T14:26:40+02:00", START_S),
        ("2020-09-13 12:26", START_S - 40),
        ("2020-09-13", START_S - 44_800),
    ],
)
def test_iso_texts_are_utc_unless_they_have_an_offset(
    tmp_path: Path, text: str, second: int
) -> None:
    frame = with_value("timestamp", 0, text)
    later = [f"2020-09-14T00:{i:02}:00Z" for i in range(1, 40)]
    frame = frame.with_columns(pl.Series("timestamp", [text, *later]))

    events = ingest_at(write_log(tmp_path, frame))

    assert events.ts_s.min() == second


@pytest.mark.parametrize("dtype", [pl.Int64, pl.Float64, pl.String])
def test_number_ids_have_no_fraction(tmp_path: Path, dtype: pl.DataType) -> None:
    numbers = pl.Series([i % 5 + 10 for i in range(40)]).cast(pl.Float64).cast(dtype)
    log_frame().with_columns(item_id=numbers).write_parquet(tmp_path / "events.parquet")

    events = ingest_at(small_recipe(tmp_path, data={"events": "events.parquet"}))

    assert list(events.vocabulary.items) == ["10", "11", "12", "13", "14"]


def test_leading_zeros_of_csv_ids_stay(tmp_path: Path) -> None:
    frame = log_frame().with_columns(item_id=pl.format("00{}", pl.int_range(40) % 5))

    events = ingest_at(write_log(tmp_path, frame))

    assert list(events.vocabulary.items) == ["000", "001", "002", "003", "004"]


def test_labels_are_kept_and_ratings_are_cut(tmp_path: Path) -> None:
    frame = log_frame().with_columns(stars=pl.Series([1.0, 4.0, 5.0, 3.5] * 10))
    columns = {"label": "stars"}

    events = ingest_at(
        write_log(tmp_path, frame, data={"positive_from": 4, "columns": columns}), NOW_S
    )

    assert events.has_impressions
    assert events.label.reshape(4, 10).mean(1).tolist() == [0, 1, 1, 0]
    assert events.popularity.sum() == 40
    assert events.train_popularity.sum() == 32


@pytest.mark.parametrize("value", ["2", "-1", "0.5", "yes", "nan"])
def test_label_other_than_0_and_1_is_refused(tmp_path: Path, value: str) -> None:
    labels = ["1", "0"] * 20
    labels[6] = value
    frame = log_frame().with_columns(pl.Series("clicked", labels))

    text = refusal(tmp_path, frame, data={"columns": {"label": "clicked"}})

    assert "column 'clicked': got a label" in text
    assert f"in 1 of 40 rows (first: '{value}' in row 7), expected" in text


def test_missing_columns_are_named_with_those_there(tmp_path: Path) -> None:
    text = refusal(tmp_path, log_frame().rename({"item_id": "itemid", "timestamp": "at"}))

    assert "no column 'item_id'; did you mean 'itemid'?, 'timestamp'" in text
    assert "its columns are: user_id, itemid, at" in text


@pytest.mark.parametrize("column", ["user_id", "item_id", "timestamp"])
def test_null_is_refused_with_its_row(tmp_path: Path, column: str) -> None:
    text = refusal(tmp_path, with_value(column, 4, None))

    assert (
        f"events.csv: column '{column}': got no value in 1 of 40 rows (first: None in row 5)"
        in text
    )


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("timestamp", "noon", "got an unreadable time in 1 of 40 rows"),
        ("timestamp", "-5", "got a time before 1970 in 1 of 40 rows"),
        ("timestamp", str(int(NOW_S) + 90_000), "got a time in the future in 1 of 40 rows"),
        ("item_id", "x" * 129, "expected 1 to 128 printable characters"),
        ("user_id", "a\tb", "expected 1 to 128 printable characters"),
    ],
)
def test_bad_value_is_refused_with_its_row(
    tmp_path: Path, column: str, value: str, words: str
) -> None:
    text = refusal(tmp_path, with_value(column, 4, value))

    assert f"column '{column}'" in text
    assert words in text
    assert "in row 5" in text


def test_time_within_a_day_from_now_is_a_clock_that_runs_ahead(tmp_path: Path) -> None:
    frame = with_value("timestamp", 39, str(int(NOW_S) + 80_000))

    events = ingest_at(write_log(tmp_path, frame, split={"validate_from": 0.5, "test_from": 0.7}))

    assert events.ts_s.max() == NOW_S + 80_000


def test_ids_with_a_fraction_are_refused(tmp_path: Path) -> None:
    halves = pl.Series([i / 2 for i in range(40)])
    log_frame().with_columns(item_id=halves).write_parquet(tmp_path / "events.parquet")

    with pytest.raises(
        EventsError, match=r"'item_id': got a fraction in 20 of 40 rows \(first: 0\.5 in row 2\)"
    ):
        ingest_at(small_recipe(tmp_path, data={"events": "events.parquet"}))


def test_list_column_is_refused(tmp_path: Path) -> None:
    lists = pl.Series([["a"]] * 40)
    log_frame().with_columns(item_id=lists).write_parquet(tmp_path / "events.parquet")

    with pytest.raises(EventsError, match="'item_id': got values of type List"):
        ingest_at(small_recipe(tmp_path, data={"events": "events.parquet"}))


def test_empty_log_is_refused(tmp_path: Path) -> None:
    assert "events: got an empty table" in refusal(tmp_path, log_frame(0))


def test_file_without_a_header_is_refused(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_bytes(b"")

    with pytest.raises(EventsError, match=r"events\.csv: cannot be read"):
        ingest_at(small_recipe(tmp_path))


def test_one_item_is_nothing_to_rank(tmp_path: Path) -> None:
    frame = log_frame().with_columns(item_id=pl.lit("only"))

    assert "items: got 1 distinct item, expected at least 2" in refusal(tmp_path, frame)


def test_period_without_targets_is_refused(tmp_path: Path) -> None:
    days = {"train_from_day": 0, "validate_from_day": 0.01, "test_from_day": 3}

    assert "got no target to test on among the 0 events of its period" in refusal(
        tmp_path, log_frame(), split=days
    )


def test_period_ends_just_before_the_next(tmp_path: Path) -> None:
    frame = log_frame().with_columns(timestamp=START_S + pl.int_range(40) * 86_400)
    days = {"train_from_day": 0, "validate_from_day": 29.5, "test_from_day": 30}

    assert "got no target to validate on among the 0 events" in refusal(tmp_path, frame, split=days)


def test_target_needs_exactly_the_history_that_the_recipe_says(tmp_path: Path) -> None:
    # 8 of each user's 10 events are in training, so the last of them has 7 before it.
    ingest_at(write_log(tmp_path, log_frame(), history={"min_events": 7}))

    assert "got no target to train on" in refusal(tmp_path, log_frame(), history={"min_events": 8})


def test_events_of_the_same_time_are_no_history(tmp_path: Path) -> None:
    basket = pl.when(pl.int_range(40) < 32).then(START_S).otherwise("timestamp")

    text = refusal(tmp_path, log_frame().with_columns(timestamp=basket), history={"min_events": 1})

    assert "got no target to train on" in text


def test_min_events_that_no_user_has_is_rejected(tmp_path: Path) -> None:
    text = refusal(tmp_path, log_frame(), history={"min_events": 10})

    assert "got no target to train on" in text
    assert "history.min_events = 10" in text


@pytest.mark.parametrize(("kind", "file"), [("item", "items.csv"), ("user", "users.csv")])
def test_duplicate_ids_of_a_table_are_refused(tmp_path: Path, kind: str, file: str) -> None:
    ids = ["a", "b", "c", "b"]
    pl.DataFrame({f"{kind}_id": ids}).write_csv(tmp_path / file)
    recipe = write_log(tmp_path, log_frame(), data={f"{kind}s": file})

    with pytest.raises(
        EventsError,
        match=rf"{file}: column '{kind}_id': got a repeated id in 2 of 4 rows .*'b' in row 2",
    ):
        ingest_at(recipe)


def test_profile_fields_need_a_user_table(tmp_path: Path) -> None:
    text = refusal(tmp_path, log_frame(), data={"user_fields": ["age"]})

    assert "data.user_fields: got age, expected a log with a user table" in text


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
