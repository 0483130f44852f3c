"""Set-up that tests of several blocks and models share."""

from typing import Any

import torch
from torch import Tensor

from models.blocks.target_attention import TargetAttention
from models.registry import build_model
from models.sequence.suan import SUAN
from tests.cases import SCHEMA, SIZES, item_fields
from tests.reference.attention import Weights, attend


def random(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def weights_of(block: TargetAttention) -> Weights:
    names = ("w_1", "w_2", "w_3", "bias", "w_o")
    values: dict[str, Any] = {name: getattr(block, name).tolist() for name in names}
    return Weights(**values, slope=block.slope)


def attend_by_loops(
    block: TargetAttention,
    target: Tensor,
    keys: Tensor,
    values: Tensor,
    key_bias: Tensor | None = None,
    total: Tensor | None = None,
) -> Tensor:
    rows = [
        [
            attend(
                weights_of(block),
                block.form,
                target[b, c].tolist(),
                keys[b].tolist(),
                values[b].tolist(),
                key_bias=None if key_bias is None else key_bias[b].tolist(),
                total=None if total is None else total[b].tolist(),
            )
            for c in range(target.shape[1])
        ]
        for b in range(len(target))
    ]
    return torch.tensor(rows, dtype=torch.float64)


def suan(name: str = "suan", **config: object) -> SUAN:
    """A model in double precision, whose weights all change the score."""
    model = build_model(name, SCHEMA, item_fields(), {**SIZES, "blocks": 3, **config})
    assert isinstance(model, SUAN)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in (*model.bias.parameters(), model.places):
            parameter.normal_()
    return model.double().eval()
