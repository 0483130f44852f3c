"""What costs O(D) or O(D²) a candidate whatever L is: the mean, and linear attention."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from models.base import UserState
from models.blocks.attention.age_bias import AgeBias
from models.blocks.reading import Candidates, Events, Read
from models.contract.state_spec import StateSpec, TensorSpec
from models.readers.base import Reader, State

SCALE = 4.0
"""Size of linear attention's projected vectors at the start."""


class MeanReader(Reader):
    """Σ_l g_l e_l / (1 + Σ_l g_l), the same for all candidates; its mass is e_t · Σ_l g_l e_l.

    Args:
        dim: D.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.masses = self.pooled = 1
        self.dim, self.ages = dim, AgeBias(1)

    def state_spec(self) -> StateSpec:
        """The sum, and the number of events."""
        total = TensorSpec("total", (self.dim,), folds="sum")
        return total, TensorSpec("num_events", (1,), folds="sum")

    def encode(self, events: Events) -> UserState:
        """Sum the events."""
        worth = self.ages(events.ages)
        return {"total": (events.vectors * worth).sum(1), "num_events": worth.sum(1)}

    def read(self, state: State, candidates: Candidates) -> Read:
        """The mean."""
        total = state["total"][:, None]
        mean = total / (1 + state["num_events"])[:, None]
        mass = candidates.vectors @ total.mT  # (B, C, 1)
        # Added to zeros instead of expanded: the exporter would write the slate's size as a constant.
        return Read(mass, (mean + torch.zeros_like(candidates.vectors))[:, :, None])


class LinearReader(Reader):
    """Linear attention (Katharopoulos et al., 2006.16236): Σ_l φ(q)·φ(k_l) g_l [e_l ⊕ 1] with φ = elu + 1 per head.

    Query and key share a projection that starts orthogonal.

    Args:
        dim: D.
        key: width of a head's features.
        heads: H.
    """

    def __init__(self, dim: int, key: int, heads: int) -> None:
        super().__init__()
        self.masses = self.pooled = heads
        self.dim, self.key, self.ages = dim, key, AgeBias(heads)
        size = max(dim, key)
        start = torch.linalg.qr(torch.randn(heads, size, size)).Q[:, :dim, :key]
        self.project = nn.Parameter(SCALE * start.contiguous())

    def state_spec(self) -> StateSpec:
        """Sums of features times vectors, and of features."""
        num = self.masses * self.key
        values = TensorSpec("key_values", (num, self.dim), folds="sum")
        return values, TensorSpec("key_sums", (num,), folds="sum")

    def encode(self, events: Events) -> UserState:
        """Sum the features times [e_l ⊕ 1] of each head."""
        worth = self.ages(events.ages).mT[..., None]  # (B, H, L, 1)
        values = F.pad(events.vectors, (0, 1), value=1.0)[:, None]
        sums = ((self._feature(events.vectors) * worth).mT @ values).flatten(1, 2)
        return {"key_values": sums[..., :-1], "key_sums": sums[..., -1]}

    def read(self, state: State, candidates: Candidates) -> Read:
        """φ(q) times the sums."""
        sums = torch.cat([state["key_values"], state["key_sums"][..., None]], -1)
        sums = sums.view(-1, self.masses, self.key, self.dim + 1)
        summed = (self._feature(candidates.vectors) @ sums).transpose(1, 2)
        mass = summed[..., -1]
        return Read(mass, summed[..., :-1] / (1 + mass)[..., None])

    def _feature(self, vectors: Float[Tensor, "B K D"]) -> Float[Tensor, "B H K Dk"]:
        return F.elu(vectors[:, None] @ self.project) + 1
