"""How files are read: conditions on rows, missing values, CSV options, folders, and times as they are written."""

import logging
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from builder.errors import EventsError
from builder.ingest.events import Events
from tests.builder.logs import (
    START_S,
    ingest_at,
    log_frame,
    plain_recipe,
    problems_of,
    small_recipe,
    write_log,
)


def items_of(events: Events) -> list[str]:
    """Item of each event, in the order of users and times."""
    return [events.vocabulary.items[row - 2] for row in events.item]


def with_columns() -> pl.DataFrame:
    place = pl.int_range(40)
    return log_frame().with_columns(
        rating=(place % 5) + 0.5,
        country=pl.Series(["DK", "SE", "NO", "DK"] * 10),
        code=pl.Series(["007", "008", "x", None] * 10),
    )


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("condition", "kept"),
    [
        ("rating >= 2.5", 24),
        ("rating BETWEEN 1 AND 3 AND country IN ('DK', 'SE')", 12),
        ("country LIKE 'D%' OR rating < 1", 24),
        ("code = '007' OR code = '008'", 20),
        ("code IS NULL", 10),
        ("NOT (code = 'x')", 20),
        ("CAST(timestamp AS DOUBLE) > 0 AND rating <> 0.5", 32),
    ],
)
def test_filter_keeps_the_rows_for_which_it_is_true(
    tmp_path: Path, suffix: str, condition: str, kept: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The counts are those of the same condition in Python, by hand: 40 rows, 5 ratings, 4 countries."""
    name = f"events.{suffix}"
    frame = with_columns()
    frame.write_csv(tmp_path / name) if suffix == "csv" else frame.write_parquet(tmp_path / name)
    recipe = small_recipe(tmp_path, data={"events": name, "filter": condition})

    with caplog.at_level(logging.INFO):
        events = ingest_at(recipe)

    assert len(events.item) == kept
    assert f"data.filter left out {40 - kept} of 40 rows" in caplog.text


def test_filter_on_a_csv_keeps_ids_as_they_are_written(tmp_path: Path) -> None:
    """A column that is compared as a number still gives the id 007."""
    place = pl.int_range(40)
    frame = log_frame().with_columns(item_id=pl.format("00{}", place % 5))

    events = ingest_at(write_log(tmp_path, frame, data={"filter": "item_id >= 1"}))

    assert sorted(events.vocabulary.items) == ["001", "002", "003", "004"]


def test_rows_for_which_the_filter_is_unknown_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        ingest_at(write_log(tmp_path, with_columns(), data={"filter": "code <> 'x'"}))

    assert "left out 20 of 40 rows, 10 of them for a missing value" in caplog.text


@pytest.mark.parametrize(
    ("condition", "problem"),
    [
        ("ratting > 2", "data.filter: no column 'ratting'; did you mean 'rating'"),
        ("rating + 1", "which is a Float64, expected true or false"),
        ("country > 3", "data.filter: got 'country > 3' for columns of the types country String"),
        ("rating > 99", "data.filter: got 'rating > 99', which leaves no event"),
    ],
)
def test_filters_that_do_not_fit_the_file_are_refused(
    tmp_path: Path, condition: str, problem: str
) -> None:
    with pytest.raises(EventsError, match=problem):
        ingest_at(write_log(tmp_path, with_columns(), data={"filter": condition}))


@pytest.mark.parametrize(
    "condition",
    ["rating >", "", "drop table x", "rating > 1; rating < 2", "x IN (SELECT y FROM z)", "1 = 1"],
)
def test_filters_that_are_no_condition_are_refused_with_the_recipe(condition: str) -> None:
    (problem,) = problems_of(plain_recipe(data={"filter": condition}))

    assert problem.startswith(f"data.filter: got {condition!r}")


def with_gaps(column: str) -> pl.DataFrame:
    is_gap = pl.int_range(40) % 10 == 3
    return with_columns().with_columns(pl.when(~is_gap).then(pl.col(column)).alias(column))


@pytest.mark.parametrize("column", ["user_id", "item_id", "timestamp"])
def test_missing_ids_and_times_are_refused_with_a_hint_and_dropped_if_said(
    tmp_path: Path, column: str, caplog: pytest.LogCaptureFixture
) -> None:
    hint = (
        rf"column '{column}': got no value in 4 of 40 rows .* data.nulls = {{{column} = \"drop\"}}"
    )
    with pytest.raises(
        EventsError, match=hint.replace("{", r"\{").replace("}", r"\}").replace(" data", ".*data")
    ):
        ingest_at(write_log(tmp_path, with_gaps(column)))
    with caplog.at_level(logging.INFO):
        events = ingest_at(write_log(tmp_path, with_gaps(column), data={"nulls": {column: "drop"}}))

    assert len(events.item) == 36
    assert f"dropped 4 of 40 rows without a value of '{column}'" in caplog.text


def test_missing_values_of_a_field_are_unknown_unless_said_otherwise(tmp_path: Path) -> None:
    def ingested(nulls: dict[str, str]) -> Events:
        data = {"context_fields": ["country"], "nulls": nulls}
        return ingest_at(write_log(tmp_path, with_gaps("country"), data=data))

    unset, said, dropped = (
        ingested(nulls) for nulls in ({}, {"country": "unknown"}, {"country": "drop"})
    )

    assert (unset.context == 1).sum() == (said.context == 1).sum() == 4
    assert len(dropped.item) == 36
    with pytest.raises(EventsError, match="column 'country': got no value in 4 of 40 rows"):
        ingested({"country": "refuse"})


def test_nan_counts_as_missing(tmp_path: Path) -> None:
    frame = with_columns().with_columns(
        rating=pl.when(pl.int_range(40) % 4 == 0).then(float("nan")).otherwise("rating")
    )
    frame.write_parquet(tmp_path / "events.parquet")
    data = {"events": "events.parquet", "context_fields": ["rating"], "nulls": {"rating": "drop"}}

    assert len(ingest_at(small_recipe(tmp_path, data=data)).item) == 30


def test_nulls_of_an_item_table_are_settled_too(tmp_path: Path) -> None:
    items = {"item_id": ["i0", None, "i1"], "colour": ["red", "blue", None]}
    pl.DataFrame(items).write_parquet(tmp_path / "items.parquet")
    data = {"items": "items.parquet", "item_fields": ["colour"]}
    with pytest.raises(EventsError, match="column 'item_id': got no value in 1 of 3 rows"):
        ingest_at(write_log(tmp_path, log_frame(), data=data))

    events = ingest_at(write_log(tmp_path, log_frame(), data=data | {"nulls": {"item_id": "drop"}}))

    assert events.vocabulary.items[:2] == ["i0", "i1"]


def test_unusable_null_rules_are_refused(tmp_path: Path) -> None:
    (problem,) = problems_of(plain_recipe(data={"nulls": {"user_id": "unknown"}}))
    assert problem == (
        'data.nulls.user_id: got "unknown" for data.columns.user, expected "drop" or "refuse"'
    )
    (problem,) = problems_of(plain_recipe(data={"nulls": {"rating": "keep"}}))
    assert problem == "data.nulls.rating: got 'keep', expected one of: drop, unknown, refuse"
    with pytest.raises(EventsError, match=r"data.nulls: got 'userid', .*; did you mean 'user_id'"):
        ingest_at(write_log(tmp_path, log_frame(), data={"nulls": {"userid": "drop"}}))
    empty = log_frame().with_columns(user_id=pl.lit(None, pl.String))
    with pytest.raises(
        EventsError, match=r'data.nulls: got "drop" for columns that leave no event'
    ):
        ingest_at(write_log(tmp_path, empty, data={"nulls": {"user_id": "drop"}}))


def test_csv_of_a_spreadsheet_is_read_with_its_options(tmp_path: Path) -> None:
    """Semicolons, decimal commas, Latin-1, NULL as a word, and no header line."""
    lines = [
        f"u{place % 4};{'Müll' if place % 5 else 'NULL'};{START_S + 60 * place};{place % 3},5"
        for place in range(40)
    ]
    (tmp_path / "events.csv").write_bytes("\n".join(lines).encode("latin-1"))
    csv = {"separator": ";", "decimal_comma": True, "encoding": "latin-1", "nulls": ["NULL"]}
    data = {
        "csv": csv | {"names": ["user_id", "item_id", "timestamp", "stars"]},
        "columns": {"label": "stars"},
        "positive_from": 1.5,
        "nulls": {"item_id": "drop"},
        "item_fields": [],
    }
    with pytest.raises(EventsError, match="items: got 1 distinct item"):
        ingest_at(small_recipe(tmp_path, data=data))
    lines = [line.replace("Müll", f"Müll {place % 2}") for place, line in enumerate(lines)]
    (tmp_path / "events.csv").write_bytes("\n".join(lines).encode("latin-1"))

    events = ingest_at(small_recipe(tmp_path, data=data))

    assert sorted(events.vocabulary.items) == ["Müll 0", "Müll 1"]
    assert len(events.item) == 32
    assert events.label.sum() == sum(1 for place in range(40) if place % 5 and place % 3)


@pytest.mark.parametrize(
    ("written", "number"),
    [("3,5", 3.5), ("-1.234,50", -1234.5), ("7", 7.0), ("1.234.567,0", 1234567)],
)
def test_decimal_commas_are_points(tmp_path: Path, written: str, number: float) -> None:
    frame = log_frame().with_columns(stars=pl.lit(written))
    frame.write_csv(tmp_path / "events.csv", separator=";")
    data = {
        "csv": {"separator": ";", "decimal_comma": True},
        "columns": {"label": "stars"},
        "positive_from": number,
    }
    assert ingest_at(small_recipe(tmp_path, data=data)).label.all()
    data["positive_from"] = number + 0.25
    assert not _labels(tmp_path, data).sum()


def _labels(folder: Path, data: dict[str, Any]) -> Any:
    from builder.ingest.columns import as_label
    from builder.ingest.sources.files import read_files

    raw = read_files(small_recipe(folder, data=data))
    return as_label(raw.events, "stars", data["positive_from"], None)


@pytest.mark.parametrize(
    ("csv", "problem"),
    [
        ({"separator": ";;"}, "data.csv.separator: got ';;', expected one ASCII character"),
        ({"quote": "ä"}, "data.csv.quote: got 'ä', expected one ASCII character"),
        ({"encoding": "utf-9"}, "data.csv.encoding: got 'utf-9', expected an encoding that Python"),
        ({"names": ["a", "a"]}, "data.csv.names: got ['a', 'a'], expected different names"),
    ],
)
def test_impossible_csv_options_are_refused(csv: dict[str, Any], problem: str) -> None:
    (found,) = problems_of(plain_recipe(data={"csv": csv}))

    assert found.startswith(problem)


def test_csv_options_that_do_not_fit_the_file_are_refused(tmp_path: Path) -> None:
    write_log(tmp_path, log_frame())
    with pytest.raises(EventsError, match=r"got 3 columns, expected 2 as in data.csv.names"):
        ingest_at(small_recipe(tmp_path, data={"csv": {"names": ["a", "b"]}}))
    (tmp_path / "events.csv").write_bytes("user_id,item_id,timestamp\nü,1,2\n".encode("latin-1"))
    with pytest.raises(
        EventsError, match=r"got bytes that are not ascii .*expected data.csv.encod"
    ):
        ingest_at(small_recipe(tmp_path, data={"csv": {"encoding": "ascii"}}))


@pytest.mark.parametrize("name", ["log.tsv", "log.csv.gz", "LOG.CSV"])
def test_tables_are_known_by_their_names(tmp_path: Path, name: str) -> None:
    import gzip

    text = log_frame().write_csv(separator="\t" if "tsv" in name else ",").encode()
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)

    assert len(ingest_at(small_recipe(tmp_path, data={"events": name})).item) == 40


@pytest.mark.parametrize("pattern", ["events", "events/day=*", "events/*/*.parquet"])
def test_parts_of_a_path_are_columns(tmp_path: Path, pattern: str) -> None:
    """A folder as Spark writes it: partitions in the path, a marker and checksums beside the tables."""
    frame = log_frame().with_columns(day=pl.format("2020-09-{}", 13 + pl.int_range(40) // 20))
    for (day,), part in frame.group_by("day"):
        folder = tmp_path / "events" / f"day={day}"
        folder.mkdir(parents=True)
        part.drop("day").write_parquet(folder / "part-0.parquet")
        (folder / "._SUCCESS.crc").write_bytes(b"crc")
        (folder / "_metadata.parquet").write_bytes(b"no table")
    if pattern.endswith("parquet"):
        for path in tmp_path.rglob("_metadata.parquet"):
            path.unlink()
    data = {"events": pattern, "context_fields": ["day"], "filter": "day >= '2020-09-14'"}

    events = ingest_at(small_recipe(tmp_path, data=data))

    assert len(events.item) == 20
    assert events.vocabulary.context["day"] == ["2020-09-14"]


def first_s(folder: Path, times: pl.Series, **data: Any) -> int:
    frame = log_frame().with_columns(timestamp=times)
    frame.write_parquet(folder / "events.parquet")
    return int(
        ingest_at(small_recipe(folder, data={"events": "events.parquet", **data})).ts_s.min()
    )


NOON = pl.datetime_range(
    pl.datetime(2020, 7, 1, 12), pl.datetime(2020, 7, 1, 12, 39), "1m", eager=True
)
NOON_UTC_S = 1_593_604_800


def test_times_without_an_offset_are_of_the_zone_that_is_said(tmp_path: Path) -> None:
    """Noon in Berlin in summer is 10 o'clock UTC, in winter 11 o'clock."""
    berlin = {"time_zone": "Europe/Berlin"}
    as_text = NOON.dt.strftime("%Y-%m-%dT%H:%M:%S")

    assert first_s(tmp_path, NOON) == NOON_UTC_S
    assert first_s(tmp_path, NOON, **berlin) == NOON_UTC_S - 7200
    assert first_s(tmp_path, as_text, **berlin) == NOON_UTC_S - 7200
    assert first_s(tmp_path, as_text + "Z", **berlin) == NOON_UTC_S
    assert first_s(tmp_path, as_text + "+01:00", **berlin) == NOON_UTC_S - 3600
    assert first_s(tmp_path, NOON.dt.replace_time_zone("UTC"), **berlin) == NOON_UTC_S
    assert first_s(tmp_path, NOON.dt.offset_by("6mo"), **berlin) == 1_609_498_800
    assert first_s(tmp_path, NOON.dt.epoch("s"), **berlin) == NOON_UTC_S


def test_hours_that_come_twice_or_never_are_read(tmp_path: Path) -> None:
    """In Berlin, 02:30 came twice on 25 October 2020 (first at 00:30 UTC), and never on 29 March (01:30 UTC)."""
    berlin = {"time_zone": "Europe/Berlin"}
    for month, day, expected in ((10, 25, 1_603_585_800), (3, 29, 1_585_445_400)):
        half = pl.datetime(2020, month, day, 2, 30)
        times = pl.datetime_range(half, half + pl.duration(seconds=39), "1s", eager=True)
        assert first_s(tmp_path, times, **berlin) == expected


def test_times_in_another_format_are_read_if_it_is_said(tmp_path: Path) -> None:
    texts = NOON.dt.strftime("%d.%m.%Y %H:%M")

    assert first_s(tmp_path, texts, time_format="%d.%m.%Y %H:%M") == NOON_UTC_S
    with pytest.raises(EventsError, match=r"an unreadable time in 40 of 40 .*data.time_format"):
        first_s(tmp_path, texts)
    with pytest.raises(EventsError, match=r"expected a text such as data.time_format = '%m/%d/%Y'"):
        first_s(tmp_path, texts, time_format="%m/%d/%Y")


def test_unknown_zones_are_refused_with_the_recipe() -> None:
    (problem,) = problems_of(plain_recipe(data={"time_zone": "Europe/Berlim"}))

    assert problem.startswith("data.time_zone: got 'Europe/Berlim', expected a name such as")
    assert "Europe/Berlin" in problem.split("did you mean")[1]
