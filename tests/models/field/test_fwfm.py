"""FwFM against its equation, pair by pair."""

import pytest
import torch

from models.blocks.fields.pairs import upper
from models.field.fwfm import FwFM
from tests.cases import random_batch
from tests.models.field.by_pairs import SPLITS, by_pairs, dot, embedded, field_model, logits_of


@pytest.mark.parametrize(
    "schema", SPLITS, ids=["all", "no user", "no context", "no item", "candidate"]
)
def test_fwfm_equals_its_equation(schema):
    model, batch = field_model("fwfm", schema), random_batch(schema)
    assert isinstance(model, FwFM)
    fields, weight = embedded(model, batch), upper(model.pair_weights, model.get_buffer("places"))
    expected = model.frame.bias + (fields * model.first_order).sum((-2, -1))
    expected = expected + by_pairs(fields, lambda k, m, a, b: weight[k, m] * dot(k, m, a, b))
    torch.testing.assert_close(logits_of(model, batch), expected)
