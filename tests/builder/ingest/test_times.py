"""Times in a wrong unit or of another era, and what `ingest` says of the dates of a log."""

import logging
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from builder.errors import EventsError
from builder.ingest.run import ingest
from tests.builder.ingest.refusals import refusal, with_value
from tests.builder.logs import NOW_S, START_S, ingest_at, log_frame, small_recipe, write_log

DAY_S = 86_400
SIXTY_DAYS = log_frame(61).with_columns(timestamp=START_S + pl.int_range(61) * DAY_S)


def at_times(times: list[Any], dtype: Any = pl.Int64) -> pl.DataFrame:
    return log_frame(len(times)).with_columns(timestamp=pl.Series(times, dtype=dtype))


def warnings_of(folder: Path, frame: pl.DataFrame, caplog: pytest.LogCaptureFixture) -> list[str]:
    with caplog.at_level(logging.WARNING):
        ingest_at(write_log(folder, frame))
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
@pytest.mark.parametrize("dtype", [pl.Int64, pl.UInt64, pl.Float64, pl.String])
def test_seconds_in_another_unit_are_refused_with_their_dates(
    tmp_path: Path, unit: str, dtype: Any
) -> None:
    frame = SIXTY_DAYS.with_columns(pl.col("timestamp").cast(dtype))
    frame.write_parquet(tmp_path / "events.parquet")
    recipe = small_recipe(tmp_path, data={"events": "events.parquet", "time_unit": unit})

    with pytest.raises(EventsError) as caught:
        ingest_at(recipe)

    assert str(caught.value) == (
        "events.parquet: column 'timestamp': got times that are no dates of online events when they are read as "
        f'{unit}, expected data.time_unit = "s": then they are from 2020-09-13 12:26 to 2020-11-12 12:26'
    )


@pytest.mark.parametrize("per_s", [1_000, 1_000_000, 1_000_000_000])
def test_other_units_that_are_read_as_seconds_are_refused_with_their_unit(
    tmp_path: Path, per_s: int
) -> None:
    unit = {1_000: "ms", 1_000_000: "us", 1_000_000_000: "ns"}[per_s]

    text = refusal(tmp_path, SIXTY_DAYS.with_columns(timestamp=pl.col("timestamp") * per_s))

    assert f'expected data.time_unit = "{unit}": then they are from 2020-09-13 12:26 to' in text


@pytest.mark.parametrize("lost", ["0", "86399", "1970-01-01"])
def test_one_time_of_1970_among_others_is_refused_with_its_row(tmp_path: Path, lost: str) -> None:
    text = refusal(tmp_path, with_value("timestamp", 4, lost))

    assert (
        f"got a time decades before the others in 1 of 40 rows (first: '{lost}' in row 5)" in text
    )
    assert "is a missing time written as 0?" in text


def test_a_log_that_goes_back_beyond_1990_without_a_gap_is_read(tmp_path: Path) -> None:
    years = [500_000_000 + 100 * DAY_S * place for place in range(120)]

    events = ingest_at(write_log(tmp_path, at_times(years)))

    assert sorted(events.ts_s.tolist()) == years


def test_times_since_the_start_of_the_log_are_read_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (line,) = warnings_of(tmp_path, at_times([9_000 * place for place in range(40)]), caplog)

    assert "all times are before 1990 (1970-01-01 00:00 to 1970-01-05 01:30)" in line
    assert "is data.time_unit right?" in line


def test_a_log_of_less_than_a_day_is_read_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (line,) = warnings_of(tmp_path, log_frame(), caplog)

    assert "all events are within 0.027 days (2020-09-13 12:26 to 2020-09-13 13:05)" in line


def test_a_log_of_sixty_days_gives_no_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert warnings_of(tmp_path, SIXTY_DAYS, caplog) == []


@pytest.mark.parametrize(
    ("odd", "words"),
    [
        (
            START_S - 300 * DAY_S,
            "1 of 62 events are 300 days before all others (2019-11-18 12:26 to",
        ),
        (
            START_S + 160 * DAY_S,
            "1 of 62 events are 100 days after all others (2021-02-20 12:26 to",
        ),
    ],
)
def test_an_event_far_from_all_others_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, odd: int, words: str
) -> None:
    (line,) = warnings_of(tmp_path, at_times([*SIXTY_DAYS["timestamp"], odd]), caplog)

    assert words in line


def test_dates_of_the_first_and_the_last_event_are_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        ingest_at(write_log(tmp_path, SIXTY_DAYS))

    (line,) = [text for text in caplog.messages if " to " in text]
    assert line == "events.csv: events from 2020-09-13 12:26 to 2020-11-12 12:26 (60.0 days)"


def test_a_log_without_times_has_no_dates(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sections = {
        "data": {"columns": {"time": ""}},
        "split": {"validate_events": 0.3, "test_events": 0.3},
    }
    with caplog.at_level(logging.INFO):
        ingest_at(write_log(tmp_path, SIXTY_DAYS, **sections))

    assert not [text for text in caplog.messages if "1970" in text]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        (pl.UInt64, 2**63),
        (pl.UInt64, 2**64 - 1),
        (pl.Int128, 2**100),
        (pl.Float64, 1e300),
        (pl.Float64, float("inf")),
        (pl.String, "1e300"),
        (pl.String, "18446744073709551615"),
    ],
)
def test_a_number_beyond_all_times_is_refused_with_its_row(
    tmp_path: Path, unit: str, dtype: Any, value: Any
) -> None:
    per_s = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}[unit]
    times = [second * per_s for second in SIXTY_DAYS["timestamp"]]
    times[6] = value
    frame = at_times([str(at) for at in times] if dtype == pl.String else times, dtype)
    frame.write_parquet(tmp_path / "events.parquet")
    recipe = small_recipe(tmp_path, data={"events": "events.parquet", "time_unit": unit})

    with pytest.raises(
        EventsError, match=r"'timestamp': got a.* time.* in 1 of 61 rows .* in row 7"
    ):
        ingest_at(recipe)


@pytest.mark.parametrize("day", ["0001-01-01", "1969-12-31"])
@pytest.mark.parametrize("unit", ["ms", "us"])
def test_dates_before_1970_are_refused_with_their_row(tmp_path: Path, day: str, unit: str) -> None:
    dates = [*["2020-09-13"] * 39, day]
    frame = log_frame().with_columns(timestamp=pl.Series(dates).str.to_datetime(time_unit=unit))  # type: ignore[arg-type]
    frame.write_parquet(tmp_path / "events.parquet")

    with pytest.raises(EventsError, match=r"got a time before 1970 in 1 of 40 rows .* in row 40"):
        ingest_at(small_recipe(tmp_path, data={"events": "events.parquet"}))


def test_the_present_is_no_future(tmp_path: Path) -> None:
    events = ingest_at(write_log(tmp_path, with_value("timestamp", 39, str(int(NOW_S)))))

    assert events.ts_s.max() == int(NOW_S)
    assert ingest(write_log(tmp_path, log_frame())).as_of_s == START_S + 60 * 39 + 1
