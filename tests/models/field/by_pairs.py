"""Small field models in float64, and their equations as sums over pairs of fields."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from models.contract.schema import Field
from models.field.base import FieldModel
from models.registry import build_model
from tests.cases import SCHEMA, item_fields, small

SPLITS = [
    SCHEMA,
    replace(SCHEMA, user_fields=()),
    replace(SCHEMA, context_fields=()),
    replace(SCHEMA, item_fields=SCHEMA.item_fields[:1]),
    replace(SCHEMA, candidate_fields=(Field("display", 4), Field("mailer", 3))),
]


def field_model(name: str, schema=SCHEMA, **config: object) -> FieldModel:
    """A model in double precision, whose weights all change the score."""
    fields = item_fields(schema)
    model = build_model(name, schema, fields, {**small(name), "embedding_std": 0.5, **config})
    assert isinstance(model, FieldModel)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
        for table in (m for m in model.modules() if isinstance(m, torch.nn.Embedding)):
            table.weight[0].zero_()
    return model.double().eval()


def embedded(model: FieldModel, batch) -> Tensor:
    """Embeddings of all fields of all candidates, [B, C, K, D]."""
    profile = model.frame.user(batch.user.fields)[:, None]
    online = model.frame.online(batch.context, batch.slate)
    return torch.cat([profile.expand(-1, online.shape[1], -1, -1), online], 2)


def first_order(model: FieldModel, batch) -> Tensor:
    return model.frame.user_linear(batch.user.fields) + model.frame.online_linear(
        batch.context, batch.slate
    )


def by_pairs(fields: Tensor, value: Callable[..., Tensor]) -> Tensor:
    """Σ over k < m of value(k, m, e_k, e_m), pair by pair."""
    size = fields.shape[2]
    total = torch.zeros(fields.shape[:2], dtype=fields.dtype)
    for k in range(size):
        for m in range(k + 1, size):
            total = total + value(k, m, fields[:, :, k], fields[:, :, m])
    return total


def dot(_k: int, _m: int, x: Tensor, y: Tensor) -> Tensor:
    return (x * y).sum(-1)


def logits_of(model: FieldModel, batch) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model(batch.user, batch.context, batch.slate)
    return logits
