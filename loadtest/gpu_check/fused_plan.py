"""What the fused engine reads, made once from a trained LREA with hash slots: packed item rows, folded head."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from models.base import CtrModel
from models.blocks.mlp import Head
from models.blocks.target_attention import TargetAttention
from models.sequence.hash_slots import HashSlots
from models.sequence.lrea import LREA

HIDDEN_LAYERS = 2
"""Hidden layers of a head that the kernel knows."""


@dataclass(frozen=True)
class Plan:
    """Sizes and weights. Letters: V rows, D width, M families, h units, H heads, P profile, W1 and W2 hidden layers.

    Attributes:
        rows: item embeddings [V, D].
        keys: of each row, its slot in each family, then its key in each, [V, 2M] int32.
        fold: W_1, W_2, W_3 of the attention to slots, then to recent events, [2, 3, h, D].
        units: of both: b, W_s (0 for recent events), W_o times the attention's scale, [2, 3, h].
        candidate: first layer, of what a candidate has, [Dc, W1].
        profile: the same, of the profile, [P, W1].
        mean: the same, of the recent events' mean, [D, W1].
        context: the same, times the embedding of each context id, [Σ sizes, W1].
        context_start: row of `context` at which each field begins, int32.
        bias: of the first layer, [W1].
        hidden: second layer with the first norm folded in, [W1, W2], and its bias [W2].
        out: last layer with the second norm folded in, [W2], and its bias [1].
        wide: from the scalars to the logit, [3M].
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
    hidden: tuple[Tensor, Tensor]
    out: tuple[Tensor, Tensor]
    wide: Tensor

    def to(self, device: str) -> "Plan":
        """The same there."""
        moved = {name: _moved(value, device) for name, value in vars(self).items()}
        return Plan(**moved)


def _moved(value: object, device: str) -> object:
    if isinstance(value, tuple):
        return tuple(part.to(device).contiguous() for part in value)
    return value.to(device).contiguous() if isinstance(value, Tensor) else value


def make_plan(model: CtrModel) -> Plan:
    """Fold a model's weights, on the CPU.

    Raises:
        ValueError: the model is no LREA with hash slots alone, or its head has not two hidden layers.
    """
    if not isinstance(model, LREA) or not isinstance(model.slots, HashSlots) or model.wide is None:
        raise ValueError(f"model: got {type(model).__name__}, expected LREA with hash slots")
    frame, slots, head = model.frame, model.slots, model.frame.head
    if len(head.norms) != HIDDEN_LAYERS:
        raise ValueError(f"mlp: got {len(head.norms)} hidden layers, expected {HIDDEN_LAYERS}")
    with torch.no_grad():
        key = slots.get_buffer("key_of_row").long()
        slot = slots.get_buffer("slot_of_key")[key]
        attentions = [(model.attention, model.scale), (frame.short, frame.short_scale)]
        first = head.user.weight.mT
        p, c = frame.profile.dim, frame.context.dim
        context = list(_context(model, first[p : p + c]))
        starts = torch.tensor([0, *(len(part) for part in context)]).cumsum(0)[:-1]
        hidden, out = _layers(head)
        return Plan(
            rank=slots.rank, width=slots.width, families=len(slots.families),
            heads=model.config.heads, slope=model.config.slope,
            rows=frame.items(torch.arange(model.schema.num_items)[None])[0],
            keys=torch.cat([slot, key], 1).int(),
            fold=torch.stack([torch.stack([a.w_1.mT, a.w_2.mT, a.w_3.mT]) for a, _ in attentions]),
            units=torch.stack([_units(a, scale) for a, scale in attentions]),
            candidate=head.candidate.weight.mT, profile=first[:p], mean=first[p + c :],
            context=torch.cat([*context, first.new_zeros(1, first.shape[1])]),
            context_start=starts.int(), bias=head.user.bias, hidden=hidden, out=out,
            wide=model.wide.weight[0],
        ).to("cpu")  # contiguous, as the kernels read them  # fmt: skip


def _units(attention: TargetAttention, scale: float) -> Tensor:
    side = torch.zeros_like(attention.bias) if attention.w_s is None else attention.w_s[0]
    return torch.stack([attention.bias, side, attention.w_o.flatten() * scale])


def _context(model: LREA, weight: Tensor) -> Iterator[Tensor]:
    start = 0
    for table in model.frame.context.tables:
        width = table.weight.shape[1]
        yield table.weight @ weight[start : start + width]
        start += width


def _layers(head: Head) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Second and last layer, each having taken up the norm before it."""
    found = []
    for norm, linear in zip(head.norms, [head.hidden[0], head.out], strict=True):
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        shift = norm.bias - norm.running_mean * scale
        found.append(((linear.weight * scale).mT, linear.bias + linear.weight @ shift))
    (hidden, hidden_bias), (out, out_bias) = found
    return (hidden, hidden_bias), (out[:, 0], out_bias)
