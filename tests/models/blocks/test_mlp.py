"""The head equals an ordinary perceptron, though its first layer is split."""

import pytest
import torch
from torch import nn

from models.blocks.mlp import Head


@pytest.mark.parametrize("widths", [(8, 4), (5,), (7, 7, 3)])
def test_the_head_equals_a_perceptron_over_the_concatenation(widths: tuple[int, ...]):
    torch.manual_seed(0)
    head = Head(user_dim=3, candidate_dim=4, widths=widths, slope=0.1, dropout=0.0).double()
    first = nn.Linear(7, widths[0]).double()
    first.load_state_dict({"weight": torch.cat([head.user, head.candidate], 1), "bias": head.bias})
    layers: list[nn.Module] = [first, nn.LeakyReLU(0.1)]
    for linear in head.hidden:
        layers += [linear, nn.LeakyReLU(0.1)]
    tower = nn.Sequential(*layers, head.out)
    user, candidate = torch.randn(2, 3).double(), torch.randn(2, 5, 4).double()
    joined = torch.cat([user[:, None].expand(-1, 5, -1), candidate], -1)
    torch.testing.assert_close(head(user, candidate), tower(joined).squeeze(-1))
