"""What costs O(D) or O(D²) a candidate whatever L is: the mean, and linear attention."""

import torch
import torch.nn.functional as F
from torch import nn

from builder.experiments.promotions.blocks.base import (
    HEADS,
    AgeBias,
    Block,
    Candidates,
    History,
    Read,
    State,
)
from builder.experiments.promotions.embeddings import DIM

KEY = 24
"""Width of a head's features in linear attention."""


class Mean(Block):
    """Σ_l g_l ê_l / (1 + Σ_l g_l); its mass is ê_t · Σ_l g_l ê_l, how much it is like the candidate."""

    masses, heads = 1, 1

    def __init__(self) -> None:
        super().__init__()
        self.ages = AgeBias(1)

    def encode(self, history: History) -> State:
        """The sum and the number of events."""
        worth = self.ages(history.ages)
        return {"sum": (history.events * worth).sum(1), "count": worth.sum(1)}

    def read(self, state: State, candidates: Candidates) -> Read:
        """The same for all candidates, but for the mass."""
        mean = state["sum"] / (1 + state["count"])
        mass = candidates.vectors @ state["sum"][..., None]
        return Read(mass, mean[:, None].expand_as(candidates.vectors))

    def state_bytes(self, length: int) -> int:
        """D + 1 numbers."""
        return 2 * (DIM + 1)


class Linear(Block):
    """Linear attention (Katharopoulos et al., 2006.16236): Σ_l φ(q)·φ(k_l) g_l v_l with φ = elu + 1 per head.

    Query and key share a projection that starts orthogonal.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ages = AgeBias(HEADS)
        start = torch.linalg.qr(torch.randn(HEADS, DIM, DIM)).Q[..., :KEY]
        self.project = nn.Parameter(4 * start)

    def encode(self, history: History) -> State:
        """Σ_l φ(k_l) ⊗ [ê_l ⊕ 1] of each head."""
        worth = self.ages(history.ages).transpose(1, 2)[..., None]  # (B, H, L, 1)
        feature = self._feature(history.events) * worth
        values = F.pad(history.events, (0, 1), value=1.0)[:, None]
        return {"sums": feature.mT @ values}  # (B, H, KEY, D + 1)

    def read(self, state: State, candidates: Candidates) -> Read:
        """φ(q) times the sums."""
        summed = (self._feature(candidates.vectors) @ state["sums"]).transpose(1, 2)
        mass = summed[..., -1]
        return Read(mass, (summed[..., :-1] / (1 + mass)[..., None]).flatten(2))

    def _feature(self, vectors: torch.Tensor) -> torch.Tensor:
        return F.elu(vectors[:, None] @ self.project) + 1

    def state_bytes(self, length: int) -> int:
        """H · KEY · (D + 1) numbers."""
        return 2 * HEADS * KEY * (DIM + 1)
