"""The head equals an ordinary perceptron, though its first layer is split."""

import pytest
import torch
from torch import nn

from models.blocks.mlp import Head


@pytest.mark.parametrize("widths", [(8, 4), (5,), (7, 7, 3)])
@pytest.mark.parametrize("training", [True, False])
def test_the_head_equals_a_perceptron_over_the_concatenation(widths, training: bool):
    torch.manual_seed(0)
    head = Head(user_dim=3, candidate_dim=4, widths=widths, slope=0.1, dropout=0.0).double()
    layers: list[nn.Module] = []
    for i, width in enumerate(widths):
        linear = nn.Linear(7 if i == 0 else widths[i - 1], width).double()
        source = head.user if i == 0 else head.hidden[i - 1]
        weight = (
            torch.cat([head.user.weight, head.candidate.weight], 1) if i == 0 else source.weight
        )
        linear.load_state_dict({"weight": weight, "bias": source.bias})
        layers += [linear, nn.LeakyReLU(0.1), nn.BatchNorm1d(width).double()]
    tower = nn.Sequential(*layers, head.out).train(training)
    head.train(training)
    user, candidate = torch.randn(2, 3).double(), torch.randn(2, 5, 4).double()
    joined = torch.cat([user[:, None].expand(-1, 5, -1), candidate], -1)
    expected = tower(joined.flatten(0, 1)).view(2, 5)
    torch.testing.assert_close(head(user, candidate), expected)
