"""FinalMLP against its equation."""

import torch

from models.field.final_mlp import FinalMLP
from tests.cases import random_batch
from tests.models.field.by_pairs import embedded, field_model, logits_of


def test_final_mlp_is_two_gated_towers_plus_a_bilinear_form():
    model, batch = field_model("final_mlp"), random_batch()
    assert isinstance(model, FinalMLP)
    flat, rows = embedded(model, batch).flatten(2), []
    for stream in (model.first, model.second):
        tower, gate = stream.tower, 2 * stream.gate(stream.given).sigmoid()
        assert tower.user is not None
        x = (flat * gate) @ torch.cat([tower.user.weight, tower.online.weight], 1).T
        x = (x + tower.online.bias).relu()
        for layer in tower.hidden:
            x = layer(x).relu()
        rows.append(x)
    first, second = rows
    expected = (model.first_out(first) + model.second_out(second)).squeeze(-1) + model.frame.bias
    for head, (a, b) in enumerate(zip(first.chunk(2, -1), second.chunk(2, -1), strict=True)):
        expected = expected + ((a @ model.fusion[head]) * b).sum(-1)
    torch.testing.assert_close(logits_of(model, batch), expected)
