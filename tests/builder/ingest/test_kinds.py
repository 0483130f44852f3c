"""Fields that are no words: training alone decides their ids, and a raw value has one id offline and online."""

import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import polars as pl
import pytest
from hypothesis import given

from builder.errors import EventsError
from builder.export.prototypes import make_prototypes
from builder.ingest.events import Events
from builder.ingest.kinds import fit
from builder.recipe.field_rules import FieldRule
from builder.recipe.plain import recipe_from_plain
from builder.recipe.recipe import recipe_from
from models.contract.schema import FIRST_KNOWN, UNKNOWN
from tests.builder.logs import (
    HERE,
    START_S,
    ingest_at,
    log_frame,
    plain_recipe,
    problems_of,
    write_log,
)
from tests.builder.pool_logs import offers, write_pools

NUMERIC = {"price": {"kind": "numeric"}}
DATA = {"context_fields": ["price"], "fields": NUMERIC}
numbers = hnp.arrays(np.float64, st.integers(1, 40), elements=st.floats(-1e15, 1e15))
rules = st.builds(
    FieldRule,
    kind=st.just("numeric"),
    buckets=st.integers(2, 12),
    transform=st.sampled_from(["quantile", "log"]),
)


def with_prices(folder: Path, prices: list[Any], **data: Any) -> Events:
    """The usual log of 40 events, of which the first 32 are known to training."""
    frame = log_frame().with_columns(price=pl.Series(prices, strict=False))
    return ingest_at(write_log(folder, frame, data={**DATA, **data}))


def in_time(events: Events) -> np.ndarray:
    """Ids of the context in the order of the log."""
    ids: np.ndarray = events.context[np.argsort(events.ts_s), 0]
    return ids


@given(numbers, rules, st.booleans())
def test_buckets_rise_are_full_and_named_by_their_smallest_number(
    values: np.ndarray, rule: FieldRule, has_missing: bool
):
    reader, names = fit(values, has_missing, rule)
    ids = reader.ids_of_numbers(values)
    assert len(names) == len(set(names)) == reader.size
    assert len(reader.edges) < rule.buckets
    assert reader.ids(names).tolist() == list(range(FIRST_KNOWN, FIRST_KNOWN + reader.size))
    own = range(FIRST_KNOWN + has_missing, FIRST_KNOWN + reader.size)
    assert set(ids.tolist()) == set(own)
    assert [float(name) for name in names[has_missing:]] == [
        values[ids == one].min() for one in own
    ]
    order = np.argsort(values)
    assert (np.diff(ids[order]) >= 0).all()


def test_quantile_buckets_hold_equally_many_and_log_buckets_are_equally_wide():
    values = np.exp(np.random.default_rng(0).normal(0, 3, 4000))
    quantile, _ = fit(values, False, FieldRule(kind="numeric", buckets=8))
    counts = np.bincount(quantile.ids_of_numbers(values))[FIRST_KNOWN:]
    assert counts.tolist() == [500] * 8
    log, _ = fit(values, False, FieldRule(kind="numeric", buckets=8, transform="log"))
    widths = np.diff(np.log1p(np.array(log.edges) / values.min()))
    assert widths == pytest.approx(np.full(6, widths.mean()), rel=0.1)


def test_few_different_numbers_each_have_a_bucket():
    reader, names = fit(np.array([1.0] * 1000 + [5, 2, 4.5]), False, FieldRule(kind="numeric"))
    assert names == ["1", "2", "4.5", "5"]
    assert reader.edges == (1.5, 3.25, 4.75)


def test_a_float32_is_in_the_bucket_of_the_number_it_stands_for():
    values = np.random.default_rng(1).integers(1, 999, 500) / 10
    reader, _ = fit(values, False, FieldRule(kind="numeric", buckets=16))
    ids = reader.ids_of_numbers(values)
    assert (reader.ids_of_numbers(values.astype(np.float32).astype(np.float64)) == ids).all()


@pytest.mark.parametrize("form", ["csv", "float", "float32", "integer", "decimal"])
def test_offline_ids_are_those_of_the_same_number_in_a_request(tmp_path: Path, form: str):
    cents = np.random.default_rng(2).integers(0, 5000, 40)
    whole = form == "integer"
    prices = cents.tolist() if whole else (cents / 100).tolist()
    events = with_prices(tmp_path, prices)
    if form not in ("csv", "integer"):
        dtypes: dict[str, Any] = {
            "float": pl.Float64,
            "float32": pl.Float32,
            "decimal": pl.Decimal(9, 2),
        }
        frame = log_frame().with_columns(price=pl.Series(prices).cast(dtypes[form]))
        frame.write_parquet(tmp_path / "events.parquet")
        recipe = plain_recipe(data={**DATA, "events": "events.parquet"})
        events = ingest_at(recipe_from(recipe, tmp_path / "recipe.toml"))
    read = [events.vocabulary.context_ids({"price": price})[0] for price in prices]
    assert in_time(events).tolist() == read
    assert [events.vocabulary.context_ids({"price": str(price)})[0] for price in prices] == read
    assert events.schema.context_fields[0].size == max(read) + 1


def test_training_alone_decides_the_buckets(tmp_path: Path):
    early = [1.0, 2.0, 3.0, 4.0] * 8
    events = with_prices(tmp_path, [*early, *[1000.0] * 8])
    assert events.vocabulary.context["price"] == ["1", "2", "3", "4"]
    assert in_time(events)[-1] == FIRST_KNOWN + 3  # beyond the last edge


def test_missing_and_unreadable_numbers(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        events = with_prices(tmp_path, ["7", None, "8.5", "free"] * 10)
    assert events.vocabulary.context["price"] == ["", "7", "8.5"]
    assert in_time(events)[:4].tolist() == [3, 2, 4, UNKNOWN]
    assert "10 of 40 rows hold no number (first: 'free')" in caplog.text


def test_missing_numbers_that_training_never_saw_are_unknown(tmp_path: Path):
    events = with_prices(tmp_path, [*["7", "8"] * 18, *[None] * 4])
    assert events.vocabulary.context["price"] == ["7", "8"]
    assert in_time(events)[-4:].tolist() == [UNKNOWN] * 4


def test_a_column_without_numbers_is_refused(tmp_path: Path):
    with pytest.raises(EventsError, match="field 'price': kind \"numeric\": got no number"):
        with_prices(tmp_path, ["cheap", "dear"] * 20)


def test_fields_of_items_users_and_candidates(tmp_path: Path):
    rng = np.random.default_rng(3)
    shown = offers().with_columns(price=pl.Series(rng.uniform(1, 9, len(offers())).round(2)))
    items = pl.DataFrame({"item_id": [f"i{n}" for n in range(30)], "weight": np.arange(30) / 4})
    users = pl.DataFrame({"user_id": [f"u{n}" for n in range(24)], "age": [*range(20, 43), None]})
    items.write_csv(tmp_path / "items.csv")
    users.write_csv(tmp_path / "users.csv")
    numeric = {"kind": "numeric", "buckets": 4}
    data = {
        "items": "items.csv",
        "users": "users.csv",
        "item_fields": ["weight"],
        "user_fields": ["age"],
        "candidate_fields": ["placement", "price"],
        "fields": dict.fromkeys(["weight", "age", "price"], numeric),
    }
    events = ingest_at(write_pools(tmp_path, shown=shown, data=data))
    words = events.vocabulary
    assert words.candidate["placement"] == ["aisle", "end", "front"]
    assert len(words.candidate["price"]) == len(words.user["age"]) - 1 == 4
    assert events.pools is not None
    assert set(np.unique(events.pools.fields[:, 1])) == set(range(2, 6))
    age = {user: events.user_fields[at, 0] for at, user in enumerate(events.user_ids)}
    for user, known in users.iter_rows():
        assert age[user] == words.user_ids({"age": known})[0]
    assert age["u23"] == FIRST_KNOWN
    prototypes = make_prototypes(events)
    assert prototypes is not None
    (column,) = [at for at, f in enumerate(events.schema.item_fields) if f.name == "weight"]
    for item, weight in items.iter_rows():
        row = words.item_rows([item])[0]
        place = prototypes.find({"weight": str(weight)})
        assert place is not None
        assert prototypes.rows[place][0] == events.item_fields[row, column]
    events.save(tmp_path / "saved")
    assert Events.load(tmp_path / "saved").vocabulary.readers == words.readers


BAD: list[tuple[dict[str, Any], str]] = [
    ({"pirce": {"kind": "numeric"}}, "data.fields.pirce: got a field that is in no list"),
    ({"user": {"kind": "numeric"}}, "data.fields.user: got a field that is in no list"),
    ({"price": {"kind": "number"}}, "data.fields.price.kind: got 'number', expected one of"),
    ({"price": {"kind": "numeric", "buckets": 1}}, "price.buckets: got 1, expected at least 2"),
    ({"price": {"buckets": 8}}, 'buckets: got a key that kind "categorical" does not read'),
    ({"price": {"kind": "numeric", "edges": 1}}, "data.fields.price.edges: unknown key"),
]


@pytest.mark.parametrize(("rules", "text"), BAD, ids=[text for _, text in BAD])
def test_wrong_rules_are_named(rules: dict[str, Any], text: str):
    data = {"context_fields": ["price"], "user_fields": ["user"], "fields": rules}
    assert text in "\n".join(problems_of(plain_recipe(data=data)))


def test_rules_survive_plain_json_and_change_the_fingerprint_only_where_set():
    plain, numeric = (
        recipe_from(plain_recipe(data={"context_fields": ["price"], "fields": rules}), HERE)
        for rules in ({}, NUMERIC)
    )
    assert "fields" not in plain.to_dict()["data"]
    assert plain.fingerprint(["data"]) != numeric.fingerprint(["data"])
    assert recipe_from_plain(numeric.to_dict()).data == numeric.data


def test_truth_values_in_any_words_are_two_ids(tmp_path: Path):
    words = ["yes", "No", "TRUE", "0"]
    kind = {"price": {"kind": "boolean"}}
    events = with_prices(tmp_path, [*words * 9, None, "maybe", "1", "f"], fields=kind)
    assert events.vocabulary.context["price"] == ["false", "true"]
    assert in_time(events)[:4].tolist() == [3, 2, 3, 2]
    assert in_time(events)[-4:].tolist() == [UNKNOWN, UNKNOWN, 3, 2]
    for value, dense in ((True, 3), (False, 2), (1, 3), ("off", 2), ("perhaps", UNKNOWN)):
        assert events.vocabulary.context_ids({"price": value}).tolist() == [dense]
    with pytest.raises(EventsError, match="got no truth value"):
        with_prices(tmp_path, ["maybe"] * 40, fields=kind)


@pytest.mark.parametrize("form", ["iso", "epoch", "date", "datetime"])
def test_dates_are_ages_when_the_event_comes_offline_and_the_request_online(
    tmp_path: Path, form: str
):
    """Event n comes 60 n seconds after the first; each date lies n days and an hour before its event."""
    moments = [START_S + 60 * n - (n * 86_400 + 3600) for n in range(40)]
    dates = [datetime.fromtimestamp(moment, UTC) for moment in moments]
    frame = log_frame().with_columns(
        since={
            "iso": pl.Series([date.isoformat() for date in dates]),
            "epoch": pl.Series(moments),
            "date": pl.Series([date.date() for date in dates]),
            "datetime": pl.Series([date.replace(tzinfo=None) for date in dates]),
        }[form]
    )
    frame.write_parquet(tmp_path / "events.parquet")
    data = {"events": "events.parquet", "context_fields": ["since"]}
    values = plain_recipe(data={**data, "fields": {"since": {"kind": "date", "buckets": 64}}})
    events = ingest_at(recipe_from(values, tmp_path / "recipe.toml"))
    words = events.vocabulary
    shown = frame["since"].cast(pl.String).to_list()
    read = [
        words.reader("context", "since").id(date, float(START_S + 60 * n))
        for n, date in enumerate(shown)
    ]
    assert in_time(events).tolist() == read
    assert list(words.context["since"])[:3] == ["P0D", "P1D", "P2D"]
    assert len(words.context["since"]) == 32, "days of the training part"
    assert in_time(events)[-1] == in_time(events)[31], "older than all that training saw"


def test_ages_of_candidates_are_measured_from_the_first_request_of_their_pool(tmp_path: Path):
    shown = offers().with_columns(added=pl.lit(str(datetime.fromtimestamp(START_S, UTC))))
    data = {
        "candidate_fields": ["placement", "added"],
        "fields": {"added": {"kind": "date", "transform": "quantile"}},
    }
    events = ingest_at(write_pools(tmp_path, shown=shown, data=data))
    names = [f"P{7 * week}D" for week in range(2, 6)]  # two weeks of history, four to train on
    assert events.vocabulary.candidate["added"] == names
    assert events.pools is not None
    assert events.event_pool is not None
    for event in np.flatnonzero(events.event_pool >= 0):
        week = (events.ts_s[event] - START_S) // (7 * 86_400)
        ids = events.pools.fields[events.pools.first[events.event_pool[event]], 1]
        assert ids == FIRST_KNOWN + min(week, 5) - 2


@pytest.mark.parametrize(
    ("rules", "text"),
    [
        ({"maker": {"kind": "date"}}, 'maker.kind: got "date" for a field of items or users'),
        ({"price": {"kind": "boolean", "buckets": 3}}, 'got a key that kind "boolean" does not'),
    ],
)
def test_impossible_kinds_are_named(rules: dict[str, Any], text: str):
    data = {"context_fields": ["price"], "item_fields": ["maker"], "fields": rules}
    assert text in "\n".join(problems_of(plain_recipe(data=data)))


def test_dates_need_a_log_with_times(tmp_path: Path):
    data = {
        "context_fields": ["price"],
        "fields": {"price": {"kind": "date"}},
        "columns": {"time": ""},
    }
    frame = log_frame().with_columns(price=pl.lit("2020-01-01"))
    recipe = write_log(tmp_path, frame, data=data, split={"validate_users": 0.3, "test_users": 0.3})
    with pytest.raises(EventsError, match='price: got kind "date", whose age is measured from'):
        ingest_at(recipe)
