"""The look-up of a whole slate equals a dict's, id by id."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.contract.row_index import WIDTH, RowIndex, as_words
from models.contract.schema import FIRST_KNOWN, UNKNOWN
from models.contract.vocabulary import Vocabulary

ASCII = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=WIDTH)
ANY = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=24)


@given(known=st.lists(ASCII, unique=True, max_size=80), others=st.lists(ASCII, max_size=40))
def test_an_index_finds_what_a_dict_finds(known: list[str], others: list[str]):
    words = as_words([*known, *others])
    assert words is not None
    rows = {name: row for row, name in enumerate(known, 2)}
    got = RowIndex(known, 2).find(words, 1)
    assert got.tolist() == [rows.get(name, 1) for name in [*known, *others]]


@given(known=st.lists(ANY, unique=True, max_size=30), others=st.lists(ANY, max_size=30))
def test_a_vocabulary_finds_ids_that_do_not_fit(known: list[str], others: list[str]):
    vocabulary = Vocabulary(items=known, user={}, context={})
    rows = {name: row for row, name in enumerate(known, FIRST_KNOWN)}
    slate = [*others, *known]
    expected = [rows.get(name, UNKNOWN) for name in slate]
    assert vocabulary.item_rows(slate).tolist() == expected


def test_an_index_of_many_ids_misses_those_that_are_not_there():
    known = [str(n) for n in range(0, 60_000, 3)]
    index = RowIndex(known, 5)
    slate = [str(n) for n in range(3_000)]
    words = as_words(slate)
    assert words is not None
    expected = [5 + n // 3 if n % 3 == 0 else -1 for n in range(3_000)]
    np.testing.assert_array_equal(index.find(words, -1), np.array(expected))


@pytest.mark.parametrize("name", ["é", "x" * (WIDTH + 1)])
def test_ids_that_do_not_fit_have_no_words(name: str):
    assert as_words(["a", name]) is None
    with pytest.raises(ValueError, match="ASCII"):
        RowIndex([name], 2)
