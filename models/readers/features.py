"""Random features of the kernel (Rahimi & Recht 2007): additive, and its error falls as 1/√r.

Fields have length 1, so Π_f exp(τ_f (cos_f − 1)) = exp(−|x − y|²/2) with x = √τ ⊙ e, which is E[cos(ω · (x − y))] for ω
normal. State: Σ_l g_h(l) φ_h(e_l) ⊗ [e_l ⊕ 1] with φ = [cos(ω·x) ⊕ sin(ω·x)] / √(r/2H); ω is learned, too.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from models.base import UserState
from models.blocks.attention.age_bias import AgeBias
from models.blocks.attention.kernel import FieldKernel
from models.blocks.reading import Candidates, Events, Read
from models.blocks.unit_items import ItemLayout
from models.contract.state_spec import StateSpec, TensorSpec
from models.readers.base import Reader, State


class RandomFeatures(Reader):
    """r features in all, shared out to the heads. O(r·D) per candidate.

    Args:
        layout: fields of the vectors.
        rank: r.
        heads: H.

    Raises:
        ValueError: r is no multiple of 2·H.
    """

    def __init__(self, layout: ItemLayout, rank: int, heads: int) -> None:
        super().__init__()
        if rank % (2 * heads):
            raise ValueError(f"rank: got {rank}, expected a multiple of 2·heads = {2 * heads}")
        self.rank, self.dim = rank, layout.dim
        self.masses = self.pooled = heads
        self.kernel, self.ages = FieldKernel(layout.widths, heads), AgeBias(heads)
        self.omega = nn.Parameter(torch.randn(heads, layout.dim, rank // heads // 2))

    def state_spec(self) -> StateSpec:
        """Sums of features times vectors, and of features."""
        return (TensorSpec("feature_sums", (self.rank, self.dim + 1), folds="sum"),)

    def encode(self, events: Events) -> UserState:
        """Sum the features times [e_l ⊕ 1]."""
        worth = self.ages(events.ages).mT[..., None]  # (B, H, L, 1)
        values = F.pad(events.vectors, (0, 1), value=1.0)[:, None]
        sums = (self._feature(events.vectors) * worth).mT @ values  # (B, H, r/H, D + 1)
        return {"feature_sums": sums.flatten(1, 2)}

    def read(self, state: State, candidates: Candidates) -> Read:
        """Estimates of masses, below zero now and then, and of what was matched."""
        sums = state["feature_sums"].view(-1, self.masses, self.rank // self.masses, self.dim + 1)
        summed = (self._feature(candidates.vectors) @ sums).transpose(1, 2)
        mass = summed[..., -1]
        return Read(mass, summed[..., :-1] / (1 + mass.abs())[..., None])

    def _feature(self, vectors: Float[Tensor, "B K D"]) -> Float[Tensor, "B H K r"]:
        scale = (self.kernel.tau() @ self.kernel.spread).sqrt()[:, None]  # (H, 1, D)
        angle = vectors[:, None] @ (scale.mT * self.omega)
        return torch.cat([angle.cos(), angle.sin()], -1) / math.sqrt(self.omega.shape[-1])
