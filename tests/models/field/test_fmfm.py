"""FmFM against its equation, pair by pair."""

import pytest
import torch

from models.blocks.fields.pairs import upper
from models.field.fmfm import FmFM
from tests.cases import random_batch
from tests.models.field.by_pairs import (
    SPLITS,
    by_pairs,
    embedded,
    field_model,
    first_order,
    logits_of,
)


@pytest.mark.parametrize(
    "schema", SPLITS, ids=["all", "no user", "no context", "no item", "candidate"]
)
def test_fmfm_equals_its_equation(schema):
    model, batch = field_model("fmfm", schema), random_batch(schema)
    assert isinstance(model, FmFM)
    matrices = upper(model.matrices, model.get_buffer("places"))
    expected = first_order(model, batch) + by_pairs(
        embedded(model, batch), lambda k, m, a, b: ((a @ matrices[k, m]) * b).sum(-1)
    )
    torch.testing.assert_close(logits_of(model, batch), expected)
