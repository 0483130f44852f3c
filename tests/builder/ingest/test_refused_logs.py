"""Logs that cannot be ingested: the error names the file, the column or the row."""

from pathlib import Path

import polars as pl
import pytest

from builder.errors import EventsError
from tests.builder.ingest.refusals import refusal, with_value
from tests.builder.logs import (
    NOW_S,
    START_S,
    ingest_at,
    log_frame,
    small_recipe,
    write_log,
)


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
