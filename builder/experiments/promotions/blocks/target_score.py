"""DIN's attention: a learned score of each event, unnormalised (1706.06978), with LREA's score unit (2503.02542v4).

    w_h(t, l) = Σ_{j in h} o_j φ(W_1ᵀ ê_t + W_2ᵀ ê_l + W_3ᵀ (ê_t ⊙ ê_l) + W_s[age of l] + b)_j,   φ = Leaky ReLU(.1)
    mass_h = Σ_l w_h,   pooled_h = Σ_l w_h ê_l / (1 + Σ_l |w_h|)

It starts as likeness: unit j of head h has W_3 = 4 on the head's field and 0 elsewhere, W_1 and W_2 near zero, biases
from 0 to −3, o = 1/units, so that an equal field gives 1 to 4 and a strange one about 0.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from builder.experiments.promotions.blocks.base import (
    HEADS,
    Block,
    Candidates,
    History,
    Read,
    State,
)
from builder.experiments.promotions.embeddings import DIM, WIDTHS
from builder.experiments.promotions.task import AGES

UNITS = 8
"""Of each head: h = 32."""
SLOPE = 0.1


class Score(nn.Module):
    """φ's weights, and scores of candidates against keys."""

    def __init__(self) -> None:
        super().__init__()
        hidden = HEADS * UNITS
        field = torch.repeat_interleave(torch.arange(len(WIDTHS)), torch.tensor(WIDTHS))
        own = (field[:, None] == torch.arange(HEADS)).float().repeat_interleave(UNITS, 1)
        self.w_1 = nn.Parameter(0.02 * torch.randn(DIM, hidden))
        self.w_2 = nn.Parameter(0.02 * torch.randn(DIM, hidden))
        self.w_3 = nn.Parameter(4 * own + 0.02 * torch.randn(DIM, hidden))
        self.bias = nn.Parameter(-torch.linspace(0, 3, UNITS).repeat(HEADS))
        self.w_o = nn.Parameter(torch.full((HEADS, UNITS), 1 / UNITS))

    def forward(
        self,
        target: Float[Tensor, "B C D"],
        keys: Float[Tensor, "B K D"],
        side: Float[Tensor, "S h"] | None = None,
        side_of: Float[Tensor, "B K S"] | None = None,
    ) -> Float[Tensor, "B K C H"]:
        """w_h(t, k).

        Args:
            target: ê_t.
            keys: what is scored.
            side: W_s, of features that each key has besides.
            side_of: these features.
        """
        B, C, _ = target.shape
        fold = self.w_2[:, None] + target.mT[..., None] * self.w_3[:, None]  # (B, D, C, h)
        rows, columns = [fold], [keys]
        if side is not None and side_of is not None:
            rows.append(side[None, :, None].expand(B, -1, C, -1))
            columns.append(side_of)
        # The shift is one more row of the product, and three of zeros keep it aligned: no pass over (B, K, C, h).
        rows.append(F.pad((target @ self.w_1 + self.bias)[:, None], (0, 0, 0, 0, 0, 3)))
        columns.append(torch.ones_like(keys[..., :4]))
        z = torch.cat(columns, -1) @ torch.cat(rows, 1).flatten(2)  # (B, K, C·h)
        z = F.leaky_relu(z, SLOPE, inplace=True).view(B, -1, C, HEADS * UNITS)
        deal: Tensor = torch.block_diag(*self.w_o).mT  # type: ignore[no-untyped-call]
        return z @ deal


class TargetScore(Block):
    """DIN over all events."""

    def __init__(self) -> None:
        super().__init__()
        self.score = Score()
        self.ages = nn.Parameter(torch.zeros(AGES, HEADS * UNITS))

    def encode(self, history: History) -> State:
        """Events as they are."""
        hot = (history.ages[..., None] == torch.arange(AGES, device=history.ages.device)).float()
        return {"events": history.events, "age": hot, "real": (history.ages > 0).float()}

    def read(self, state: State, candidates: Candidates) -> Read:
        """Masses and pooled vectors."""
        weight = self.score(candidates.vectors, state["events"], self.ages, state["age"])
        return signed_read(weight * state["real"][..., None, None], state["events"])


def signed_read(weight: Float[Tensor, "B K C H"], values: Float[Tensor, "B K D"]) -> Read:
    """Σ w and Σ w v / (1 + Σ |w|) of each head."""
    B, _, C, H = weight.shape
    summed = (weight.flatten(2).mT @ values).view(B, C, H, -1)
    mass, size = weight.sum(1), weight.abs().sum(1)  # (B, C, H)
    return Read(mass, (summed / (1 + size)[..., None]).flatten(2))
