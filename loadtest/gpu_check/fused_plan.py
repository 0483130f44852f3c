"""Weights of the fused engine, made once from a trained LREA with hash slots: packed item rows and a folded head."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from models.base import CtrModel
from models.blocks.mlp import Head
from models.blocks.target_attention import TargetAttention
from models.sequence.hash_slots import HashSlots
from models.sequence.lrea import LREA

HIDDEN_LAYERS = 2
"""Number of hidden layers that the head kernel computes."""
Layer = tuple[Tensor, Tensor]
"""Weight and bias."""


@dataclass(frozen=True)
class Plan:
    """Sizes and weights.

    Letters: V catalogue rows, D width, M families, h units, H heads, P width of the profile, W1 and W2 hidden layers,
    Dc width of a candidate's input of the head.

    Attributes:
        rank: number of slots.
        width: keys that a slot's table holds.
        families: M.
        heads: H.
        slope: slope of Leaky ReLU below zero.
        rows: item embeddings, [V, D].
        keys: for each row its slot in each family, then its key in each, [V, 2M] int32.
        fold: W_1, W_2, W_3 of the attention to slots, then of that to recent events, [2, 3, h, D].
        units: for both: b, W_s (0 for recent events), and W_o times the attention's scale, [2, 3, h].
        candidate: first layer, rows of a candidate's input, [Dc, W1].
        profile: first layer, rows of the profile, [P, W1].
        mean: first layer, rows of the recent events' mean, [D, W1].
        context: first layer, rows of the context fields, times the embedding of each id, [sum of sizes, W1].
        context_start: row of `context` at which each field begins, int32.
        bias: bias of the first layer, [W1].
        hidden: second layer with the first norm folded in, [W1, W2] and [W2].
        out: last layer with the second norm folded in, [W2] and [1].
        wide: weights from the scalars to the logit, [3M].
    """

    rank: int
    width: int
    families: int
    heads: int
    slope: float
    rows: Tensor
    keys: Tensor
    fold: Tensor
    units: Tensor
    candidate: Tensor
    profile: Tensor
    mean: Tensor
    context: Tensor
    context_start: Tensor
    bias: Tensor
    hidden: Layer
    out: Layer
    wide: Tensor

    def to(self, device: str) -> "Plan":
        """The plan with contiguous tensors on a device."""
        moved: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, tuple):
                moved[field.name] = tuple(part.to(device).contiguous() for part in value)
            elif isinstance(value, Tensor):
                moved[field.name] = value.to(device).contiguous()
        return replace(self, **moved)


def make_plan(model: CtrModel) -> Plan:
    """Fold a model's weights, on the CPU.

    Raises:
        ValueError: the model is not an LREA with hash slots, its head does not have two hidden layers, or it has
            candidate fields, which the kernels do not read.
    """
    if not isinstance(model, LREA) or not isinstance(model.slots, HashSlots) or model.wide is None:
        raise ValueError(f"model: got {type(model).__name__}, expected LREA with hash slots")
    head = model.frame.head
    if len(head.norms) != HIDDEN_LAYERS:
        raise ValueError(f"mlp: got {len(head.norms)} hidden layers, expected {HIDDEN_LAYERS}")
    if model.schema.candidate_fields:
        names = [field.name for field in model.schema.candidate_fields]
        raise ValueError(f"candidate fields: got {names}, expected none: the kernels read none")
    with torch.no_grad():
        plan = _fold(model, model.slots, model.wide.weight[0])
    return plan.to("cpu")  # contiguous, as the kernels read them


def _fold(model: LREA, slots: HashSlots, wide: Tensor) -> Plan:
    frame, head = model.frame, model.frame.head
    key = slots.get_buffer("key_of_row").long()
    slot = slots.get_buffer("slot_of_key")[key]
    attentions = [(model.attention, model.scale), (frame.short, frame.short_scale)]
    first = head.user.weight.mT
    profile, context = frame.profile.dim, frame.context.dim
    tables = list(_context(model, first[profile : profile + context]))
    sizes = torch.tensor([0, *(len(table) for table in tables)])
    hidden, out = _layers(head)
    return Plan(
        rank=slots.rank,
        width=slots.width,
        families=len(slots.families),
        heads=model.config.heads,
        slope=model.config.slope,
        rows=frame.items(torch.arange(model.schema.num_items)[None])[0],
        keys=torch.cat([slot, key], 1).int(),
        fold=torch.stack([torch.stack([a.w_1.mT, a.w_2.mT, a.w_3.mT]) for a, _ in attentions]),
        units=torch.stack([_units(attention, scale) for attention, scale in attentions]),
        candidate=head.candidate.weight.mT,
        profile=first[:profile],
        mean=first[profile + context :],
        # One more row, so that a model without context fields has a table to point at.
        context=torch.cat([*tables, first.new_zeros(1, first.shape[1])]),
        context_start=sizes.cumsum(0)[:-1].int(),
        bias=head.user.bias,
        hidden=hidden,
        out=out,
        wide=wide,
    )


def _units(attention: TargetAttention, scale: float) -> Tensor:
    side = torch.zeros_like(attention.bias) if attention.w_s is None else attention.w_s[0]
    return torch.stack([attention.bias, side, attention.w_o.flatten() * scale])


def _context(model: LREA, weight: Tensor) -> Iterator[Tensor]:
    start = 0
    for table in model.frame.context.tables:
        embedding = table.get_parameter("weight")
        width = embedding.shape[1]
        yield embedding @ weight[start : start + width]
        start += width


def _layers(head: Head) -> tuple[Layer, Layer]:
    """Second and last layer, each with the norm before it folded in."""
    hidden, hidden_bias = _folded(head.norms[0], head.hidden[0])
    out, out_bias = _folded(head.norms[1], head.out)
    return (hidden, hidden_bias), (out[:, 0], out_bias)


def _folded(norm: Any, linear: Any) -> Layer:
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    shift = norm.bias - norm.running_mean * scale
    return (linear.weight * scale).mT, linear.bias + linear.weight @ shift
