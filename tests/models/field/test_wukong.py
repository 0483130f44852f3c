"""WuKong's layer against its equation."""

from typing import Any

import torch

from models.field.wukong import WuKong
from tests.models.field.by_pairs import field_model


def test_the_factorization_machine_projects_xxt():
    """The layer does not compute XXᵀ; its first block must equal the form that does."""
    model = field_model("wukong")
    assert isinstance(model, WuKong)
    layer: Any = model.stack[0]
    x = torch.randn(4, model.frame.num_fields, model.frame.dim, dtype=torch.float64)
    crossed = torch.stack([row @ row.T @ layer.project for row in x])
    fm = layer.fm(layer.fm_norm(crossed.flatten(1))).view(4, layer.rows, layer.dim)
    linear = torch.einsum("sr,nrd->nsd", layer.compress.weight, x)
    rest = torch.einsum("sr,nrd->nsd", layer.residual.weight, x)
    expected = layer.norm(torch.cat([fm, linear], 1) + rest)
    torch.testing.assert_close(layer(x), expected)
