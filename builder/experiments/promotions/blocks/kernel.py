"""Kernel attention over every event: weights that start as likeness.

    w_h(t, l) = exp(Σ_f τ_hf (cos_f(t, l) − 1) + b_h[age of l])
    mass_h = Σ_l w_h,   pooled_h = Σ_l w_h ê_l / (1 + mass_h)

cos_f is the cosine of field f (id, type, category, maker), τ_hf ≥ 0 is learned. Each head starts with one field, so
that its mass starts as a soft count of that field's value. The form is a Gaussian kernel on a product of spheres.
`ProjectedKernel` has one shared projection of query and key per head instead of τ by field.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from builder.experiments.promotions.blocks.base import (
    HEADS,
    AgeBias,
    Block,
    Candidates,
    History,
    Read,
    State,
)
from builder.experiments.promotions.embeddings import DIM, WIDTHS

SHARP, DULL = 15.0, 0.3
"""τ at the start, of a head's own field and of the others. A random pair of ids has a cosine of 0 ± .18."""


class FieldKernel(nn.Module):
    """τ: exponents of a query against vectors of events or slots."""

    spread: Tensor

    def __init__(self) -> None:
        super().__init__()
        tau = torch.full((HEADS, len(WIDTHS)), DULL)
        tau[range(HEADS), range(HEADS)] = SHARP
        self.raw = nn.Parameter(torch.log(torch.expm1(tau)))  # softplus⁻¹
        field = torch.repeat_interleave(torch.arange(len(WIDTHS)), torch.tensor(WIDTHS))
        spread = (field == torch.arange(len(WIDTHS))[:, None]).float()
        self.register_buffer("spread", spread, persistent=False)  # (F, D)

    def tau(self) -> Float[Tensor, "H F"]:
        """τ_hf, at most 60."""
        return F.softplus(self.raw).clamp(max=60)

    def query(self, target: Float[Tensor, "B C D"]) -> Float[Tensor, "B HC keys"]:
        """[τ_h ⊙ ê_t ⊕ one-hot of h], heads first: its product with [ê_l ⊕ shift_l] is the exponent."""
        B, C, D = target.shape
        scaled = target[:, None] * (self.tau() @ self.spread)[:, None]  # (B, H, C, D)
        head = torch.eye(HEADS, device=target.device)[:, None].expand(B, -1, C, -1)
        return torch.cat([scaled, head], -1).view(B, HEADS * C, D + HEADS)

    def exponent(
        self,
        target: Float[Tensor, "B C D"],
        keys: Float[Tensor, "B K D"],
        shift: Float[Tensor, "B K H"],
    ) -> Float[Tensor, "B HC K"]:
        """Σ_f τ_hf (cos_f − 1) + shift_h, heads before candidates."""
        moved = shift - self.tau().sum(1)
        return self.query(target) @ torch.cat([keys, moved], -1).mT


class Kernel(Block):
    """Attention over all events."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel, self.ages = FieldKernel(), AgeBias(HEADS)

    def encode(self, history: History) -> State:
        """The events as they are."""
        return {"events": history.events, "log_age": self.ages.log(history.ages)}

    def weights(self, state: State, candidates: Candidates) -> Float[Tensor, "B HC L"]:
        """w_h(t, l), heads before candidates."""
        return self.kernel.exponent(candidates.vectors, state["events"], state["log_age"]).exp_()

    def read(self, state: State, candidates: Candidates) -> Read:
        """Masses and pooled vectors of all events."""
        return read_events(self.weights(state, candidates), state["events"])


def read_events(weight: Float[Tensor, "B HC L"], events: Float[Tensor, "B L D"]) -> Read:
    """Σ_l w and Σ_l w ê_l / (1 + Σ_l w) of each head."""
    B, _, D = events.shape
    values = F.pad(events, (0, 4), value=1.0)  # four columns: rows stay aligned to 16 bytes
    summed = (weight @ values).view(B, HEADS, -1, D + 4).transpose(1, 2)  # (B, C, H, D + 4)
    mass = summed[..., D]
    return Read(mass, (summed[..., :D] / (1 + mass)[..., None]).flatten(2))


class ProjectedKernel(Block):
    """exp(τ_h (cos(W_h ê_t, W_h ê_l) − 1) + b_h): one projection per head for query and key.

    It starts as a choice of fields: all; the id; type, category and maker; the type.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ages = AgeBias(HEADS)
        edge = [0, *torch.tensor(WIDTHS).cumsum(0).tolist()]
        start = torch.eye(DIM).repeat(HEADS, 1, 1)
        for head, (low, high) in enumerate(
            [(0, DIM), (0, edge[1]), (edge[1], DIM), (edge[1], edge[2])]
        ):
            outside = torch.ones(DIM)
            outside[low:high] = 0.03
            start[head] *= outside
        self.project = nn.Parameter(start)
        self.log_tau = nn.Parameter(torch.full((HEADS,), 2.7))

    def encode(self, history: History) -> State:
        """Keys of each head beside the events."""
        log_age = self.ages.log(history.ages)
        return {"events": history.events, "log_age": log_age, "keys": self._unit(history.events)}

    def read(self, state: State, candidates: Candidates) -> Read:
        """Masses and pooled vectors of all events."""
        return read_events(self.weights(state, candidates), state["events"])

    def weights(self, state: State, candidates: Candidates) -> Float[Tensor, "B HC L"]:
        """w_h(t, l), heads before candidates."""
        tau = self.log_tau.exp().clamp(max=60)
        query = self._unit(candidates.vectors) * tau[:, None, None]  # (B, H, C, D)
        shift = (state["log_age"] - tau).transpose(1, 2)[:, :, None]  # (B, H, 1, L)
        return (query @ state["keys"].mT + shift).exp_().flatten(1, 2)

    def _unit(self, vectors: Float[Tensor, "B K D"]) -> Float[Tensor, "B H K D"]:
        return F.normalize(vectors[:, None] @ self.project, dim=-1, eps=1e-6)
