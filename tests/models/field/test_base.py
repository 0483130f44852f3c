"""What all field models share."""

import pytest

from tests.models.field.by_pairs import field_model


def test_an_enhancement_without_field_vectors_is_refused():
    with pytest.raises(ValueError, match="llm_dim: got 0"):
        field_model("fm", fie=0.5)
