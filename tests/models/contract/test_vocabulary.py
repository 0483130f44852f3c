from dataclasses import replace

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from models.contract.errors import RequestError
from models.contract.schema import FIRST_KNOWN, UNKNOWN, FeatureSchema, Field
from models.contract.vocabulary import MAX_ID_LENGTH, Vocabulary, check_id

VOCABULARY = Vocabulary(
    items=["apple", "pear", "7"],
    user={"age": ["25-34", "65+"], "income": ["low"]},
    context={"hour": ["0", "1", "23"]},
)
SCHEMA = FeatureSchema(
    item_fields=(Field("item", 5),),
    user_fields=(Field("age", 4), Field("income", 3)),
    context_fields=(Field("hour", 5),),
    num_items=5,
    history_length=8,
    recent_length=2,
)
values = st.lists(st.text(), unique=True, max_size=6)
fields = st.dictionaries(st.text(max_size=5), values, max_size=3)


@pytest.mark.parametrize("value", ["1", "ann@example.org", "a b", "é", "日本", "x" * MAX_ID_LENGTH])
def test_printable_ids_are_ids(value):
    assert check_id("user_id", value) == value


@pytest.mark.parametrize("value", ["", "a\n", "\0", "\x1b[0m", "a\u202eb", "\ud800"])
def test_empty_and_unprintable_ids_are_refused(value):
    with pytest.raises(RequestError, match=r"^user_id: got .*expected 1 to 128 printable"):
        check_id("user_id", value)


def test_a_long_id_is_refused_and_shortened_in_the_error():
    with pytest.raises(RequestError, match=r"\(129 characters\)") as caught:
        check_id("user_id", "x" * (MAX_ID_LENGTH + 1))
    assert len(str(caught.value)) < 150


def test_items_become_rows_and_unknown_items_the_unknown_row():
    rows = VOCABULARY.item_rows(["pear", "plum", "apple", "7"])

    assert rows.dtype == np.int64
    assert rows.tolist() == [FIRST_KNOWN + 1, UNKNOWN, FIRST_KNOWN, FIRST_KNOWN + 2]
    assert VOCABULARY.item_rows([]).shape == (0,)


@pytest.mark.parametrize(
    ("profile", "ids"),
    [
        ({"age": "65+", "income": "low"}, [FIRST_KNOWN + 1, FIRST_KNOWN]),
        ({"income": "low"}, [UNKNOWN, FIRST_KNOWN]),
        ({"age": "never seen"}, [UNKNOWN, UNKNOWN]),
        (
            {"shoe size": "44"},
            [UNKNOWN, UNKNOWN],
        ),  # a profile may have fields that the model does not read
        ({}, [UNKNOWN, UNKNOWN]),
    ],
)
def test_profiles_become_ids_in_the_order_of_the_fields(profile, ids):
    assert VOCABULARY.user_ids(profile).tolist() == ids


@pytest.mark.parametrize("hour", [23, "23"])
def test_a_context_value_may_be_a_number_or_its_text(hour):
    assert VOCABULARY.context_ids({"hour": hour}).tolist() == [FIRST_KNOWN + 2]


@pytest.mark.parametrize("context", [{}, {"hour": 24}, {"hour": None}])
def test_a_missing_or_unknown_context_value_is_unknown(context):
    assert VOCABULARY.context_ids(context).tolist() == [UNKNOWN]


def test_a_context_field_that_the_model_lacks_is_refused():
    with pytest.raises(
        RequestError, match="context: got 'huor', expected a field among: hour; did you"
    ):
        VOCABULARY.context_ids({"huor": 1})
    with pytest.raises(RequestError, match="expected no field: the model has no context fields"):
        replace(VOCABULARY, context={}).context_ids({"hour": 1})


PLACED = replace(VOCABULARY, candidate={"display": ["front", "aisle"], "mailer": ["A"]})


def test_candidate_fields_become_one_row_of_ids_for_each_candidate():
    ids = PLACED.candidate_ids({"mailer": ["A", "B", None], "display": ["aisle", "front", ""]}, 3)

    assert ids.dtype == np.int64
    assert ids.tolist() == [
        [FIRST_KNOWN + 1, FIRST_KNOWN],
        [FIRST_KNOWN, UNKNOWN],
        [UNKNOWN, UNKNOWN],
    ]


def test_candidate_fields_that_a_request_does_not_give_are_unknown():
    assert PLACED.candidate_ids({"mailer": ["A"]}, 1).tolist() == [[UNKNOWN, FIRST_KNOWN]]
    assert PLACED.candidate_ids({}, 2).tolist() == [[UNKNOWN, UNKNOWN]] * 2
    assert VOCABULARY.candidate_ids({}, 2).shape == (2, 0)


def test_a_candidate_field_that_the_model_lacks_is_refused():
    with pytest.raises(RequestError, match="got 'displya', expected a field among: display, mail"):
        PLACED.candidate_ids({"displya": ["front"]}, 1)
    with pytest.raises(RequestError, match="expected no field: the model has no candidate fields"):
        VOCABULARY.candidate_ids({"display": ["front"]}, 1)
    assert PLACED.known_candidate_fields({"display": [1], "price": [2]}) == {"display": [1]}


def test_a_vocabulary_without_candidate_fields_has_the_bytes_of_older_artifacts():
    assert VOCABULARY.to_bytes() == (
        b'{"items": ["apple", "pear", "7"], '
        b'"user": {"age": ["25-34", "65+"], "income": ["low"]}, "context": {"hour": ["0", "1", "23"]}}'
    )


def test_a_vocabulary_without_fields_gives_empty_ids():
    empty = Vocabulary(items=[], user={}, context={})

    assert empty.user_ids({"age": "65+"}).shape == (0,)
    assert empty.context_ids({}).shape == (0,)
    assert empty.item_rows(["x"]).tolist() == [UNKNOWN]


@given(values, fields, fields, fields)
def test_a_vocabulary_survives_a_round_trip(items, user, context, candidate):
    vocabulary = Vocabulary(items, user, context, candidate)

    returned = Vocabulary.from_bytes(vocabulary.to_bytes())

    assert returned == vocabulary
    assert returned.item_rows(items).tolist() == list(range(FIRST_KNOWN, FIRST_KNOWN + len(items)))


@pytest.mark.parametrize(
    "change",
    [{"items": ["a", "b", "a"]}, {"user": {"age": ["x", "x"]}}, {"context": {"hour": ["1", "1"]}}],
    ids=str,
)
def test_a_duplicate_value_is_refused(change):
    with pytest.raises(ValueError, match="duplicate"):
        replace(VOCABULARY, **change)


def test_a_vocabulary_fits_its_schema():
    VOCABULARY.check(SCHEMA)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"num_items": 6}, "items"),
        ({"user_fields": SCHEMA.user_fields[::-1]}, "user fields"),
        ({"user_fields": (Field("age", 4), Field("income", 4))}, "user fields"),
        ({"context_fields": (Field("day", 5),)}, "context fields"),
        ({"candidate_fields": (Field("display", 3),)}, "candidate fields"),
        (
            {
                "user_fields": (Field("age", 4),),
                "context_fields": (Field("income", 3), Field("hour", 5)),
            },
            "user fields",
        ),
    ],
    ids=str,
)
def test_a_vocabulary_of_another_schema_is_refused(change, what):
    with pytest.raises(ValueError, match=f"vocabulary, {what}: got"):
        VOCABULARY.check(replace(SCHEMA, **change))
