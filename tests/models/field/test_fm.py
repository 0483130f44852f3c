"""FM against its equation, pair by pair."""

import pytest
import torch

from models.field.fm import FM
from tests.cases import random_batch
from tests.models.field.by_pairs import (
    SPLITS,
    by_pairs,
    dot,
    embedded,
    field_model,
    first_order,
    logits_of,
)


@pytest.mark.parametrize(
    "schema", SPLITS, ids=["all", "no user", "no context", "no item", "candidate"]
)
def test_fm_equals_its_equation(schema):
    model, batch = field_model("fm", schema), random_batch(schema)
    assert isinstance(model, FM)
    expected = first_order(model, batch) + by_pairs(embedded(model, batch), dot)
    torch.testing.assert_close(logits_of(model, batch), expected)
