"""Generated logs with hostile values and types, as CSV and as Parquet: each is ingested, or refused with a sentence."""

import random
import tempfile
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import EventsError
from builder.ingest.events import Events
from builder.recipe.recipe import recipe_from
from tests.builder.logs import START_S, ingest_at, plain_recipe
from tests.fuzzing import drawn

ROWS = (40, 40, 40, 40, 40, 2, 1, 0)
EDGES = [0, -1, 1, 2**31, 2**53 - 1, 2**53, 2**53 + 1, 2**62, 2**63 - 1, -(2**63)]
WIDE = [*EDGES, 2**63, 2**64 - 1, 2**100, -(2**100)]
FLOATS = [
    0.0,
    -0.0,
    0.5,
    7.0,
    1e300,
    -1e300,
    5e-324,
    float("inf"),
    float("-inf"),
    float("nan"),
    2.0**53,
]
WORDS = [
    "",
    " ",
    "a",
    "007",
    "7.0",
    "1e18",
    "1.5e+18",
    "nan",
    "NaN",
    "null",
    "None",
    "-0",
    "+5",
    "0x10",
]
WORDS += [
    "2020-09-13T12:26:40Z",
    "0001-01-01",
    "9999-12-31T23:59:59Z",
    "12:30",
    '"',
    "a,b",
    "\n",
    "\x00",
]
WORDS += [
    "\u202e",
    "é" * 200,
    "𒀀",
    "1" * 400,
    "9223372036854775808",
    "1,000",
    "True",
    "0.1e-400",
    "-1e309",
]
TIMES = [START_S + 9_000 * place for place in range(50)]
ODD_TIMES = [0, 1, START_S * 1000, START_S // 1000, START_S - 10**9, -START_S]
EXTREME_DAYS = [date(1, 1, 1), date(1969, 12, 31), date(1970, 1, 1), date(9999, 12, 31)]
EXTREMES = [datetime(day.year, day.month, day.day, 1, 2, 3) for day in EXTREME_DAYS]
NANOS = [datetime(1700, 1, 1), datetime(1970, 1, 1), datetime(2020, 9, 13), datetime(2200, 1, 1)]

VALUES: dict[str, tuple[Any, list[Any]]] = {
    "few": (pl.String, ["a", "b", "c", "d"]),
    "words": (pl.String, WORDS),
    "few and words": (pl.String, [*"abcdabcdabcd", *WORDS[:4]]),
    "small": (pl.Int64, [0, 1, 2, 3, 4]),
    "zero": (pl.Int64, [0]),
    "one": (pl.Int64, [1]),
    "label": (pl.Int64, [0, 1]),
    "bool": (pl.Boolean, [True, False]),
    "byte": (pl.UInt8, [0, 1, 255]),
    "int": (pl.Int64, EDGES),
    "uint": (pl.UInt64, [value for value in WIDE if 0 <= value < 2**64]),
    "huge": (pl.Int128, WIDE),
    "float": (pl.Float64, FLOATS),
    "whole float": (pl.Float64, [1.0, 2.0, 3.0, 1e300]),
    "long float": (pl.Float64, [2.0**53 + 2 * place for place in range(4)]),
    "float32": (pl.Float32, [0.0, 1.0, 2.0**24, 2.0**30, float("nan"), 3e38]),
    "rating": (pl.Float64, [0.5, 1.0, 2.5, 4.0, 5.0]),
    "time": (pl.Int64, TIMES),
    "uint time": (pl.UInt64, TIMES),
    "float time": (pl.Float64, [float(at) for at in TIMES]),
    "text time": (pl.String, [str(at) for at in TIMES]),
    "odd time": (pl.Int64, [*TIMES, *ODD_TIMES]),
    "odd float time": (pl.Float64, [*map(float, TIMES), *FLOATS]),
    "ms time": (pl.Int64, [1000 * at for at in TIMES]),
    "date": (pl.Date, EXTREME_DAYS),
    "ms": (pl.Datetime("ms"), EXTREMES),
    "us": (pl.Datetime("us"), EXTREMES),
    "ns": (pl.Datetime("ns"), NANOS),
    "good us": (pl.Datetime("us"), [datetime(2020, 9, 1) + timedelta(days=n) for n in range(9)]),
    "zoned": (pl.Datetime("us", "Asia/Tokyo"), [datetime(1971, 1, 1), datetime(2023, 1, 1)]),
    "clock": (pl.Time, [time(0), time(12, 30), time(23, 59, 59, 999_999)]),
    "duration": (pl.Duration("us"), [timedelta(0), timedelta(days=9), timedelta(days=-9)]),
    "decimal": (
        pl.Decimal(38, 2),
        [Decimal("7.00"), Decimal("9007199254740993.00"), Decimal("1e20")],
    ),
    "list": (pl.List(pl.Int64), [[0], [], [1, 2]]),
    "struct": (pl.Struct({"x": pl.Int64}), [{"x": 0}, {"x": 1}]),
    "array": (pl.Array(pl.Int64, 2), [[0, 1], [1, 2]]),
    "binary": (pl.Binary, [b"", b"\x00", b"\xff\xfe"]),
    "enum": (pl.Enum(["0", "1", "x"]), ["0", "1", "x"]),
    "category": (pl.Categorical, ["0", "1", "x"]),
    "nothing": (pl.Null, [None]),
}
"""Kind of a column -> its type, and the values that its rows are drawn from."""
USUAL = {
    "user_id": ["few"],
    "item_id": ["few", "small"],
    "timestamp": ["time", "time", "good us", "text time"],
    "clicked": ["label", "bool"],
    "stars": ["rating"],
    "place": ["few", "small"],
    "pieces": ["one", "small"],
    "id": ["few"],
}
"""Column -> kinds that make sense."""
LABELLED: dict[str, Any] = {"columns": {"label": "clicked"}}
DAYS = {"train_from_day": 0.0, "validate_from_day": 2.0, "test_from_day": 3.0}
STEPS = {
    "column": "place",
    "positive": ["a", "b", "0"],
    "negative": ["1"],
    "history": ["c", "2"],
    "cancel": ["d", "3"],
    "drop": ["4"],
}
RECIPES: list[dict[str, Any]] = [
    {},
    {"data": LABELLED},
    {"data": {"columns": {"label": "stars"}, "positive_from": 3}},
    {"data": {"columns": {"label": "stars"}, "positive_from": 3, "negative_to": 1.0}},
    {"data": {"columns": {"quantity": "pieces"}, "drop_repeats": True}},
    {"data": {"item_fields": ["place"], "category": "place", "context_fields": ["place", "hour"]}},
    {"data": {"columns": {"item_text": "place"}, "context_fields": ["weekday"]}},
    {"data": {"columns": {"time": ""}}, "split": {"validate_events": 0.3, "test_events": 0.3}},
    {"data": LABELLED, "split": {"validate_users": 0.3, "test_users": 0.3}},
    {"data": {"time_unit": "ms"}, "split": {"last_only": True}, "history": {"length": 2}},
    {"data": {"time_unit": "us"}},
    {"data": {"time_unit": "ns"}, "history": {"min_events": 1}},
    {"split": DAYS},
    {"data": {"filter": "pieces > 0 AND place <> 'a'"}},
    {"data": {"filter": "user_id IS NOT NULL AND timestamp > 1000"}},
    {"data": {"nulls": {"user_id": "drop", "item_id": "drop", "timestamp": "refuse"}}},
    {"data": {"time_zone": "America/New_York", "csv": {"decimal_comma": True, "nulls": ["a"]}}},
    {"data": {"event_kinds": STEPS}},
    {"data": {"event_kinds": STEPS | {"weights": {"b": 0.5}}, "columns": {"weight": "pieces"}}},
    {"data": {"columns": {"quantity": "pieces", "weight": "stars"}, "cancel_returns": True}},
    {"data": {"time_format": "%d.%m.%Y", "time_zone": "Asia/Tokyo"}},
]
TABLES: dict[str, dict[str, Any]] = {
    "items": {"columns": {"item_id": "id", "item_text": "stars"}, "item_fields": ["place"]},
    "users": {"columns": {"user_id": "id"}, "user_fields": ["place", "user"]},
}
"""Table beside the events -> what the recipe says of it."""
UNWRITABLE = (pl.Binary, pl.Duration("us"))
"""Types that polars does not write to a CSV."""


def series(dice: random.Random, kind: str, rows: int) -> pl.Series:
    """Values of one kind; sometimes one of them is missing."""
    dtype, values = VALUES[kind]
    drawn_values = dice.choices(values, k=rows)
    if rows and dice.random() < 0.1:
        drawn_values[dice.randrange(rows)] = None
    return pl.Series(drawn_values, dtype=dtype, strict=False)


def table(dice: random.Random, hostile: dict[str, str], rows: int) -> pl.DataFrame:
    """A log whose columns are usual, but for those in `hostile`: name -> kind."""
    kinds = {name: dice.choice(usual) for name, usual in USUAL.items()} | hostile
    return pl.DataFrame([series(dice, kind, rows).alias(name) for name, kind in kinds.items()])


def as_csv(frame: pl.DataFrame) -> pl.DataFrame:
    unwritable = [
        name for name, kind in frame.schema.items() if kind.is_nested() or kind in UNWRITABLE
    ]
    return frame.with_columns(pl.lit(name).alias(name) for name in unwritable)


def ingest_or_refuse(folder: Path, values: dict[str, Any]) -> Events | None:
    """The events, as saved and loaded; None if the log is refused. Any other error is a defect."""
    recipe = recipe_from(values, folder / "recipe.toml")
    try:
        events = ingest_at(recipe)
    except EventsError:
        return None
    events.save(folder / "saved")
    return Events.load(folder / "saved")


def check(events: Events | None) -> None:
    """What an ingested log promises."""
    if events is None:
        return
    assert len(events.user_ids) == len(set(events.user_ids)) == events.num_users
    assert len(events.item) == events.offsets[-1] > 0
    assert (events.item >= 2).all()
    assert (events.item < events.schema.num_items).all()
    assert set(events.label.tolist()) <= {0, 1}
    assert (events.ts_s >= 0).all()


HOSTILE = st.dictionaries(
    st.sampled_from(sorted(USUAL)), st.sampled_from(sorted(VALUES)), max_size=2
)


@drawn(150)
@given(
    seed=st.integers(0, 2**32),
    hostile=HOSTILE,
    rows=st.sampled_from(ROWS),
    sections=st.sampled_from(RECIPES),
    suffix=st.sampled_from([".csv", ".parquet"]),
    beside=st.sampled_from([None, None, "items", "users"]),
)
def test_no_log_gives_a_traceback(
    seed: int,
    hostile: dict[str, str],
    rows: int,
    sections: dict[str, Any],
    suffix: str,
    beside: str | None,
) -> None:
    dice = random.Random(seed)
    data = {**sections.get("data", {}), "events": f"events{suffix}"}
    names = {"events": table(dice, hostile, rows)}
    if beside is not None:
        own = TABLES[beside]
        names[beside] = table(dice, hostile, dice.choice(ROWS)).unique("id")
        data |= {**own, beside: f"{beside}{suffix}"}
        data["columns"] = {**sections.get("data", {}).get("columns", {}), **own["columns"]}
    with tempfile.TemporaryDirectory() as folder:
        for name, frame in names.items():
            path = Path(folder, f"{name}{suffix}")
            as_csv(frame).write_csv(path) if suffix == ".csv" else frame.write_parquet(path)
        check(ingest_or_refuse(Path(folder), plain_recipe(**{**sections, "data": data})))


@drawn(60)
@given(seed=st.integers(0, 2**32), suffix=st.sampled_from([".csv", ".parquet"]))
def test_no_damaged_file_gives_a_traceback(seed: int, suffix: str) -> None:
    dice = random.Random(seed)
    frame = table(dice, {}, 40)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"events{suffix}")
        frame.write_csv(path) if suffix == ".csv" else frame.write_parquet(path)
        raw = bytearray(path.read_bytes())
        for _ in range(dice.randint(1, 4)):
            at = dice.randrange(len(raw))
            raw[at : at + dice.randint(0, 3)] = dice.randbytes(dice.randint(0, 3))
        path.write_bytes(raw[: dice.randrange(len(raw))] if dice.random() < 0.3 else raw)
        check(ingest_or_refuse(Path(folder), plain_recipe(data={"events": path.name})))
