"""Display texts: one line per item."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.contract.item_texts import texts_from_bytes, texts_to_bytes

LINES = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]))


@given(st.lists(st.none() | LINES))
def test_texts_come_back_as_they_were(texts: list[str | None]) -> None:
    assert texts_from_bytes(texts_to_bytes(texts)) == [text or None for text in texts]


def test_the_file_has_one_line_per_item() -> None:
    assert texts_to_bytes(["Milk", None, "Zoë’s\u2028tea"]) == "Milk\n\nZoë’s\u2028tea\n".encode()


def test_a_text_of_two_lines_is_refused() -> None:
    with pytest.raises(ValueError, match=r"texts\[1\]: got 'a\\nb', expected a single line"):
        texts_to_bytes(["a", "a\nb"])
