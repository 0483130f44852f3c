"""DeepFM against its equation."""

import torch

from models.field.deep_fm import DeepFM
from tests.cases import random_batch
from tests.models.field.by_pairs import by_pairs, dot, embedded, field_model, first_order, logits_of


def test_deep_fm_is_fm_plus_a_perceptron_over_all_fields():
    model, batch = field_model("deep_fm"), random_batch()
    assert isinstance(model, DeepFM)
    fields, tower = embedded(model, batch), model.tower
    assert tower.user is not None
    x = fields.flatten(2) @ torch.cat([tower.user.weight, tower.online.weight], 1).T
    x = (x + tower.online.bias).relu()
    for layer in tower.hidden:
        x = layer(x).relu()
    deep = model.out(x).squeeze(-1)
    expected = first_order(model, batch) + by_pairs(fields, dot) + deep
    torch.testing.assert_close(logits_of(model, batch), expected)
