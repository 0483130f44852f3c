"""Prototypes: the combination that a new item shares most with."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from models.contract.errors import RequestError
from models.contract.prototypes import Prototypes, check_item_fields
from models.contract.schema import FIRST_KNOWN, PADDING, UNKNOWN
from models.contract.vocabulary import Vocabulary

FIELDS = {"kind": ["bread", "milk"], "aisle": ["a", "b", "c"], "maker": ["x", "y"]}
ROWS = [(2, 2, 2), (2, 2, 3), (3, 4, 2), (2, 2, 0), (3, 0, 0), (0, 4, 2), (0, 0, 2)]
PROTOTYPES = Prototypes(FIELDS, ROWS)
CASES = {
    "all of them": ({"kind": "bread", "aisle": "a", "maker": "y"}, (2, 2, 3)),
    "a value that nobody had": ({"kind": "bread", "aisle": "a", "maker": "z"}, (2, 2, 0)),
    "a field that is missing": ({"kind": "milk"}, (3, 0, 0)),
    "a combination that nobody had": ({"kind": "milk", "aisle": "c", "maker": "y"}, (3, 0, 0)),
    "the last fields, if those are more": ({"aisle": "c", "maker": "x"}, (0, 4, 2)),
    "the first field, of as many": ({"kind": "milk", "maker": "x"}, (3, 0, 0)),
    "names that are no fields": ({"maker": "x", "hue": "red"}, (0, 0, 2)),
}


@pytest.mark.parametrize(("values", "row"), CASES.values(), ids=CASES)
def test_a_new_item_gets_the_combination_that_has_most_of_its_values(values, row):
    place = PROTOTYPES.find(values)
    assert place is not None
    assert ROWS[place] == row


@pytest.mark.parametrize("values", [{}, {"kind": "wine"}, {"aisle": "b"}, {"hue": "red"}])
def test_an_item_that_shares_nothing_gets_none(values):
    assert PROTOTYPES.find(values) is None


@given(
    st.fixed_dictionaries(
        {}, optional={name: st.sampled_from([*values, "else"]) for name, values in FIELDS.items()}
    )
)
def test_a_combination_never_says_more_than_is_known(values):
    place = PROTOTYPES.find(values)
    said = {} if place is None else PROTOTYPES.named(place)
    assert said.items() <= values.items()
    others = [PROTOTYPES.named(at) for at in range(len(ROWS))]
    assert len(said) == max(
        [len(one) for one in others if one.items() <= values.items()], default=0
    )


def test_values_that_nobody_had_are_named():
    assert PROTOTYPES.unknown({"kind": "bread", "aisle": "z", "maker": "w"}) == ["aisle", "maker"]


def test_a_vocabulary_with_prototypes_comes_back_whole():
    vocabulary = Vocabulary(["p", "q"], {}, {}, {}, PROTOTYPES)
    returned = Vocabulary.from_bytes(vocabulary.to_bytes())
    assert returned.new_item_row({"kind": "milk"}) == FIRST_KNOWN + 2 + ROWS.index((3, 0, 0))
    assert returned.new_item_row({"kind": "wine"}) == UNKNOWN
    assert returned.num_rows == FIRST_KNOWN + 2 + len(ROWS)
    assert returned.to_bytes() == vocabulary.to_bytes()


def test_a_vocabulary_without_prototypes_is_written_as_before():
    vocabulary = Vocabulary(["p", "q"], {}, {})
    assert json.loads(vocabulary.to_bytes()).keys() == {"items", "user", "context"}
    assert vocabulary.new_item_row({"kind": "milk"}) == UNKNOWN


@pytest.mark.parametrize(
    "row", [(2, 2), (2, 2, 2, 2), (1, 2, 2), (4, 2, 2), (-1, 2, 2), (2.0, 2, 2), (True, 2, 2)]
)
def test_a_combination_that_cannot_be_is_refused(row):
    # beartype, in tests only, looks at one element of a list, and may see 2.0 first.
    with pytest.raises((ValueError, TypeCheckError), match="prototypes"):
        Prototypes(FIELDS, [(PADDING, 2, 2), row])


def test_a_wrong_name_is_refused_with_those_that_there_are():
    with pytest.raises(
        RequestError,
        match="fields: got 'makr', expected a field among: kind, aisle, maker; did you mean 'maker'",
    ):
        check_item_fields("fields", {"makr": "x"}, FIELDS)
    with pytest.raises(RequestError, match="no model that serves has item fields"):
        check_item_fields("fields", {"maker": "x"}, {})
    with pytest.raises(RequestError, match="expected a model that serves; none does yet"):
        check_item_fields("fields", {"maker": "x"}, {}, is_any_model=False)
