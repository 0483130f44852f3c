"""Numbers become ids of buckets, by the same code offline and online."""

import json
import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from models.contract.field_reader import NumberReader, read_numbers, readers_from_json
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
    with pytest.raises(ValueError, match="got kind 'spline', expected 'numeric'"):
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
