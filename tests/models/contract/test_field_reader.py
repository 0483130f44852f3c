"""Numbers become ids of buckets, by the same code offline and online."""

import json
import math
from datetime import UTC, datetime, timedelta

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from models.contract.field_reader import (
    BooleanReader,
    DateReader,
    KindReader,
    NumberReader,
    numbers_of_names,
    read_ages,
    read_numbers,
    readers_from_json,
    readers_to_json,
)
from models.contract.prototypes import Prototypes
from models.contract.schema import FIRST_KNOWN, PADDING, UNKNOWN, FeatureSchema, Field
from models.contract.vocabulary import Vocabulary

PRICE = NumberReader((0.0, 10.0, 20.5), has_missing=True)
AGE = NumberReader((30.0,), has_missing=False)
VOCABULARY = Vocabulary(
    items=["apple"],
    user={"age": ["18", "30"]},
    context={"price": ["", "-3", "0", "10", "21"], "hour": ["1"]},
    candidate={"price": ["", "-3", "0", "10", "21"], "shelf": ["top"]},
    readers={"user": {"age": AGE}, "context": {"price": PRICE}, "candidate": {"price": PRICE}},
)
MISSING_ID, FIRST = FIRST_KNOWN, FIRST_KNOWN + 1
READ = [
    ("-1e9", FIRST),
    ("-0.001", FIRST),
    ("0", FIRST + 1),
    ("-0", FIRST + 1),
    ("9.999", FIRST + 1),
    ("10", FIRST + 2),
    (" 10.0 ", FIRST + 2),
    ("1e1", FIRST + 2),
    ("20.5", FIRST + 3),
    ("1e300", FIRST + 3),
    (None, MISSING_ID),
    ("", MISSING_ID),
    ("  ", MISSING_ID),
    ("nan", MISSING_ID),
    ("1e400", UNKNOWN),
    ("-inf", UNKNOWN),
    ("ten", UNKNOWN),
    ("€10", UNKNOWN),
    ("10,5", UNKNOWN),
    ("True", UNKNOWN),
]


@pytest.mark.parametrize(("text", "dense"), READ)
def test_a_number_is_in_the_bucket_that_begins_at_or_below_it(text: str | None, dense: int):
    assert PRICE.id(text) == dense
    assert VOCABULARY.candidate_ids({"price": [text, text]}, 2)[:, 0].tolist() == [dense] * 2
    value = {} if text is None else {"price": text}
    assert VOCABULARY.context_ids(value)[0] == dense
    is_listed = dense in (UNKNOWN, MISSING_ID)
    assert ("price" in VOCABULARY.unknown_context(value)) == is_listed


def test_all_values_of_a_column_are_read_at_once():
    texts = [text for text, _ in READ]
    assert PRICE.ids(texts).tolist() == [dense for _, dense in READ]
    assert PRICE.ids([]).tolist() == []


def test_without_missing_numbers_in_training_they_are_unknown():
    assert AGE.ids(["29", "30", None, "x"]).tolist() == [FIRST_KNOWN, FIRST_KNOWN + 1, 1, 1]
    assert VOCABULARY.user_ids({}).tolist() == [UNKNOWN]
    assert VOCABULARY.user_ids({"age": 44}).tolist() == [FIRST_KNOWN + 1]
    assert VOCABULARY.user_ids({"age": 29.99}).tolist() == [FIRST_KNOWN]


def test_candidates_without_the_field_have_the_id_of_missing_numbers():
    ids = VOCABULARY.candidate_ids({"shelf": ["top", None]}, 2)
    assert ids.tolist() == [[MISSING_ID, FIRST_KNOWN], [MISSING_ID, UNKNOWN]]
    assert VOCABULARY.last_listed() == {"price": MISSING_ID, "shelf": UNKNOWN}


@given(
    st.lists(
        st.none() | st.text(max_size=6) | st.floats().map(str) | st.integers().map(str), max_size=9
    )
)
def test_many_values_are_read_as_each_alone(values: list[str | None]):
    numbers = read_numbers(values)
    for number, value in zip(numbers.tolist(), values, strict=True):
        (alone,) = read_numbers([value]).tolist()
        assert number == alone or (math.isnan(number) and math.isnan(alone))
    assert PRICE.ids(values).tolist() == [PRICE.id(value) for value in values]


@given(st.sets(st.floats(-1e12, 1e12), min_size=1, max_size=9), st.booleans())
def test_readers_survive_json(edges: set[float], has_missing: bool):
    reader = NumberReader(tuple(sorted(edges)), has_missing)
    fields = json.loads(json.dumps({"price": reader.to_json()}))
    assert readers_from_json(fields) == {"price": reader}


def test_a_vocabulary_survives_its_bytes_and_counts_all_ids():
    again = Vocabulary.from_bytes(VOCABULARY.to_bytes())
    assert again.to_bytes() == VOCABULARY.to_bytes()
    assert again.readers == VOCABULARY.readers
    price = Field("price", 5 + FIRST_KNOWN)
    schema = FeatureSchema(
        (Field("item", 3),), (Field("age", 4),), (price, Field("hour", 3)), 3, 4, 2,
        (price, Field("shelf", 3)),
    )  # fmt: skip
    again.check(schema)


@pytest.mark.parametrize(
    ("edges", "text"), [((1.0, 1.0), "do not rise"), ((1.0, math.inf), "finite ones")]
)
def test_wrong_edges_are_refused(edges: tuple[float, ...], text: str):
    with pytest.raises(ValueError, match=text):
        NumberReader(edges, has_missing=False)


def test_a_reader_of_another_kind_or_size_is_refused():
    with pytest.raises(ValueError, match="got kind 'spline', expected one of: numeric, boolean"):
        readers_from_json({"price": {"kind": "spline", "edges": [], "has_missing": False}})
    with pytest.raises(ValueError, match="price: got 1 names of 5 ids"):
        Vocabulary([], {}, {"price": ["1"]}, readers={"context": {"price": PRICE}})


def test_a_new_item_finds_its_prototype_by_the_bucket_of_its_price():
    fields = {"maker": ["acme"], "price": ["", "-3", "0", "10", "21"]}
    rows = [(FIRST_KNOWN, FIRST + 2), (FIRST_KNOWN, PADDING), (PADDING, FIRST + 3)]
    found = Prototypes(fields, rows, {"price": PRICE})
    again = Prototypes.from_json(json.loads(json.dumps(found.to_json())))
    for prototypes in (found, again):
        assert prototypes.find({"maker": "acme", "price": "12.34"}) == 0
        assert prototypes.find({"maker": "acme", "price": "cheap"}) == 1
        assert prototypes.find({"maker": "other", "price": "99"}) == 2
        assert prototypes.unknown({"maker": "other", "price": "cheap"}) == ["maker", "price"]
        assert prototypes.unknown({"price": "1e9"}) == []
    assert np.array_equal(found.rows, again.rows)


TRUTHS = [
    *((text, 4) for text in ("true", "True", " YES ", "1", "1.0", "on", "t", "y")),
    *((text, 3) for text in ("false", "FALSE", "no", "0", "off", "f", "n")),
    *((text, 2) for text in (None, "", " ")),
    *((text, UNKNOWN) for text in ("2", "ja", "maybe", "10")),
]


@pytest.mark.parametrize(("text", "dense"), TRUTHS)
def test_texts_of_one_truth_value_have_one_id(text: str | None, dense: int):
    reader = BooleanReader(("", "false", "true"))
    assert reader.id(text) == dense
    assert reader.ids([text, "no", text]).tolist() == [dense, 3, dense]


def test_a_truth_value_that_training_never_saw_is_unknown():
    reader = BooleanReader(("true",))
    assert reader.ids(["yes", "no", None]).tolist() == [FIRST_KNOWN, UNKNOWN, UNKNOWN]
    with pytest.raises(ValueError, match="boolean field: got"):
        BooleanReader(("true", "false"))


NOW_S = 1_700_000_000.0  # 2023-11-14T22:13:20Z
DATES = [
    ("2023-11-14", 0),
    ("2023-11-14T22:13:21Z", -1),
    ("2023-11-13T22:13:20+00:00", 1),
    ("2023-11-13 22:13:20.000000", 1),
    ("2023-11-13 22:13:20 UTC", 1),
    ("2023-11-14T00:13:20+02:00", 1),
    ("20231101", 13),
    ("2022", 682),
    ("1699913600", 1),
    ("1.6999136e9", 1),
    ("P12D", 12),
    ("-P3D", -3),
    ("1699913600000", math.inf),
    ("7", math.inf),
    ("2023-02-30", math.inf),
    ("yesterday", math.inf),
    ("1e400", math.inf),
    ("NaN", math.nan),
    ("", math.nan),
    (None, math.nan),
]


@pytest.mark.parametrize(("text", "age"), DATES)
def test_a_date_is_its_age_in_whole_days_at_the_moment_of_the_request(text: str | None, age: float):
    assert read_ages([text, "P0D"], np.full(2, NOW_S)).tolist()[0] == pytest.approx(
        age, nan_ok=True
    )
    reader = DateReader(NumberReader((0.0, 1.0, 30.0), has_missing=True))
    expected = reader.ages.ids_of_numbers(np.array([float(age)])).tolist()
    assert reader.ids([text], NOW_S).tolist() == expected == [reader.id(text, NOW_S)]


def test_without_a_moment_ages_are_measured_from_now():
    reader = DateReader(NumberReader((0.5, 1.5), has_missing=False))
    recent = datetime.now(UTC)
    texts = [recent.isoformat(), (recent - timedelta(days=1)).isoformat(), "2001-01-01"]
    assert reader.ids(texts).tolist() == [2, 3, 4]


@given(st.lists(st.none() | st.text(max_size=12) | st.datetimes().map(str), max_size=6))
def test_any_text_is_read_as_a_date_without_an_error(texts: list[str | None]):
    ages = read_ages(texts, np.full(len(texts), NOW_S))
    alone = [read_ages([text], np.full(1, NOW_S))[0] for text in texts]
    assert np.array_equal(ages, alone, equal_nan=True)
    assert len(BooleanReader(("", "false", "true")).ids(texts)) == len(texts)


def test_readers_of_every_kind_survive_json_and_read_their_own_names():
    readers: dict[str, KindReader] = {
        "b": BooleanReader(("", "false", "true")),
        "d": DateReader(NumberReader((0.5, 12.0), has_missing=True)),
        "n": NumberReader((0.5,), has_missing=False),
    }
    again = readers_from_json(json.loads(json.dumps(readers_to_json(readers))))
    assert again == readers
    assert again["d"].ids(["", "-P3D", "P1D", "P12D"]).tolist() == [2, 3, 4, 5]
    assert numbers_of_names(["-P3D", "P12D", "-2", "1e-05"]).tolist() == [-3, 12, -2, 1e-5]
