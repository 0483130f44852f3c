"""Values of a log as they are read: times, ids, labels and ratings."""

from pathlib import Path

import polars as pl
import pytest

from tests.builder.ingest.refusals import with_value
from tests.builder.logs import (
    NOW_S,
    START_S,
    ingest_at,
    log_frame,
    small_recipe,
    write_log,
)


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
