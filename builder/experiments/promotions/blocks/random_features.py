"""Random features of the kernel (Rahimi & Recht 2007): additive, and its error falls as 1/√r.

Fields have length 1, so Π_f exp(τ_f (cos_f − 1)) = exp(−|x − y|²/2) with x = √τ ⊙ ê, which is E[cos(ω · (x − y))]
for ω normal. State: Σ_l g_h(l) φ_h(ê_l) ⊗ [ê_l ⊕ 1] with φ = [cos(ω·x) ⊕ sin(ω·x)] / √(r/2H); ω is learned, too.
"""

import math

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
from builder.experiments.promotions.blocks.kernel import FieldKernel
from builder.experiments.promotions.embeddings import DIM


class RandomFeatures(Block):
    """r features in all, shared out to the heads.

    Args:
        rank: r.
    """

    def __init__(self, rank: int = 128) -> None:
        super().__init__()
        self.rank = rank
        self.kernel, self.ages = FieldKernel(), AgeBias(HEADS)
        self.omega = nn.Parameter(torch.randn(HEADS, DIM, rank // HEADS // 2))

    def encode(self, history: History) -> State:
        """Sums of features times values."""
        worth = self.ages(history.ages).transpose(1, 2)[..., None]
        values = F.pad(history.events, (0, 1), value=1.0)[:, None]
        return {"sums": (self._feature(history.events) * worth).mT @ values}

    def read(self, state: State, candidates: Candidates) -> Read:
        """Estimates of masses, below zero now and then, and of what was matched."""
        summed = (self._feature(candidates.vectors) @ state["sums"]).transpose(1, 2)
        mass = summed[..., -1]
        return Read(mass, (summed[..., :-1] / (1 + mass.abs())[..., None]).flatten(2))

    def _feature(self, vectors: Float[Tensor, "B K D"]) -> Float[Tensor, "B H K r"]:
        scaled = vectors[:, None] * (self.kernel.tau() @ self.kernel.spread).sqrt()[:, None]
        angle = scaled @ self.omega
        return torch.cat([angle.cos(), angle.sin()], -1) / math.sqrt(self.omega.shape[-1])

    def state_bytes(self, length: int) -> int:
        """r·(D + 1) numbers."""
        return 2 * self.rank * (DIM + 1)
