"""Slots by position, LREA (arXiv:2503.02542v4).

    C = W_comp E (keys),   A = W_decomp E (values),   E [L, D], W [r, L]
    o = Σ_k s_k(t) a_k,    s_k(t) = W_oᵀ φ(W_1ᵀ ê_t + W_2ᵀ c_k + W_3ᵀ (ê_t ⊙ c_k) + b)        (Eq. 9, absorbed)

`PaperSlots` trains the decompressed form (Eq. 5: Ê = W_decompᵀ C stands for the events) with L_non-neg (Eq. 10) and is
read in the absorbed form, as the paper's is served. `PositionSlots` trains what it serves; its matrices start as block
poolings and learn at 1/100 of the rate. On equal terms with the others: values are weighed by age and counted, so that
a mass exists. The paper's own rates, batch and losses beside are not reproduced here.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from builder.experiments.promotions.blocks.base import (
    AgeBias,
    Block,
    Candidates,
    History,
    Read,
    State,
    Target,
)
from builder.experiments.promotions.blocks.target_score import Score, signed_read
from builder.experiments.promotions.embeddings import DIM

SLOW = 0.01
NON_NEGATIVE = 0.3
"""λ of Eq. 10."""


class PositionSlots(Block):
    """Absorbed slots of r positions.

    Args:
        length: L.
        rank: r.
    """

    def __init__(self, length: int, rank: int = 128) -> None:
        super().__init__()
        self.rank = rank
        self.score, self.ages = Score(), AgeBias(1)
        block = torch.arange(length) * rank // length
        deal = (block == torch.arange(rank)[:, None]).float()
        self.w_comp = nn.Parameter(deal / deal.sum(1, keepdim=True).clamp(min=1))
        self.w_dec = nn.Parameter(deal)
        self.slow = [self.w_comp, self.w_dec]

    def encode(self, history: History) -> State:
        """Keys, values and how many events a slot holds."""
        values = F.pad(history.events, (0, 1), value=1.0) * self.ages(history.ages)
        return {"keys": self.w_comp @ history.events, "values": self.w_dec @ values}

    def read(self, state: State, candidates: Candidates) -> Read:
        """Attend to slots."""
        return self._absorbed(state, candidates)

    def _absorbed(self, state: State, candidates: Candidates) -> Read:
        weight = self.score(candidates.vectors, state["keys"])  # (B, R, C, H)
        B, _, C, H = weight.shape
        summed = (weight.flatten(2).mT @ state["values"]).view(B, C, H, -1)
        load = state["values"][..., -1].abs()[:, :, None, None]
        size = (weight.abs() * load).sum(1)  # (B, C, H)
        return Read(summed[..., -1], (summed[..., :-1] / (1 + size)[..., None]).flatten(2))

    def state_bytes(self, length: int) -> int:
        """R rows of keys, values and a count."""
        return 2 * self.rank * (2 * DIM + 1)


class PaperSlots(PositionSlots):
    """Decompressed in training, with L_non-neg; absorbed when read."""

    def __init__(self, length: int, rank: int = 128) -> None:
        super().__init__(length, rank)
        self.w_comp = nn.Parameter(torch.randn(rank, length) * length**-0.5)
        self.w_dec = nn.Parameter(torch.randn(rank, length) * rank**-0.5)
        self.slow = []

    def encode(self, history: History) -> State:
        """As the absorbed form; training keeps the events, too."""
        state = super().encode(history)
        if self.training:
            state |= {"events": history.events, "worth": self.ages(history.ages)}
        return state

    def read(self, state: State, candidates: Candidates) -> Read:
        """Eq. 5 in training, Eq. 9 else."""
        if not self.training:
            return self._absorbed(state, candidates)
        restored = self.w_dec.mT @ state["keys"]  # (B, L, D)
        weight = self.score(candidates.vectors, restored) * state["worth"][..., None]
        return signed_read(weight, state["events"])

    def penalty(
        self, history: History, state: State, candidates: Candidates, target: Target
    ) -> Float[Tensor, ""] | None:
        """λ (‖min(W_decomp, 0)‖² + ‖min(C, 0)‖²), the second as a mean over visits."""
        negative = self.w_dec.clamp(max=0).square().sum()
        keys: Tensor = state["keys"].clamp(max=0).square().sum() / len(state["keys"])
        return NON_NEGATIVE * (negative + keys)
