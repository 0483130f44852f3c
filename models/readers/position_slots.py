"""Slots by position: LREA (arXiv:2503.02542v4), whose equations are numbered as in that version.

    C = W_comp E (keys),   A = W_decomp E (values),   E [L, D], W [r, L]
    o = Σ_k s_k(t) a_k,    s_k(t) the score of `TargetScore`                            (Eq. 9, absorbed)

`graph = "decompressed"` trains Eq. 5, in which Ê = W_decompᵀ C stands for the events, and is read in the absorbed form,
as the paper's is served; absorption is exact only where each column of W_decomp has one sign pattern. On equal terms
with other readers, values are weighed by age and counted, so that a mass exists.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models.base import UserState
from models.blocks.attention.age_bias import AgeBias
from models.blocks.attention.target_score import TargetScore
from models.blocks.reading import Candidates, Events, Read
from models.contract.state_spec import StateSpec, TensorSpec
from models.readers.base import Reader, State, TrainRead

Graph = Literal["absorbed", "decompressed"]
Init = Literal["block", "gaussian"]


class PositionSlots(Reader):
    """Keys and values of r positions. The newest event has the last position; padding is zero.

    Args:
        length: L.
        rank: r.
        score: the score of a slot.
        dim: D.
        graph: the form that is trained.
        init: initial weights. "block": slot k owns positions kL/r … (k+1)L/r, W_comp takes their mean, W_decomp their
            sum. "gaussian": W_comp with σ = L^-½, W_decomp with σ = r^-½.
        nonneg: λ of Eq. 10 and 11: weight of the squared negative parts of W_decomp and of C (mean over users).
    """

    def __init__(
        self,
        *,
        length: int,
        rank: int,
        score: TargetScore,
        dim: int,
        graph: Graph,
        init: Init,
        nonneg: float,
    ) -> None:
        super().__init__()
        self.rank, self.dim, self.nonneg = rank, dim, nonneg
        self.masses = self.pooled = score.heads
        self.trains_what_it_serves = graph == "absorbed"
        self.score, self.ages = score, AgeBias(1)
        owner = torch.arange(length) * rank // length
        block = (owner == torch.arange(rank)[:, None]).float()
        comp, decomp = block / block.sum(1, keepdim=True).clamp(min=1), block
        if init == "gaussian":
            comp = torch.randn(rank, length) * length**-0.5
            decomp = torch.randn(rank, length) * rank**-0.5
        self.w_comp, self.w_decomp = nn.Parameter(comp), nn.Parameter(decomp)

    @property
    def slow_weights(self) -> Sequence[nn.Parameter]:
        """W_comp and W_decomp."""
        return self.w_comp, self.w_decomp

    def state_spec(self) -> StateSpec:
        """Keys E_comp, values E_auxabsorb, and how many events a slot holds."""
        return (
            TensorSpec("e_comp", (self.rank, self.dim)),
            TensorSpec("e_auxabsorb", (self.rank, self.dim)),
            TensorSpec("slot_loads", (self.rank,)),
        )

    def encode(self, events: Events) -> UserState:
        """Multiply the history with both matrices."""
        worth = self.ages(events.ages)  # (B, L, 1)
        comp, decomp = self._of_latest(events)
        values = decomp @ torch.cat([events.vectors * worth, worth], -1)
        return {
            "e_comp": comp @ events.vectors,
            "e_auxabsorb": values[..., :-1],
            "slot_loads": values[..., -1],
        }

    def read(self, state: State, candidates: Candidates) -> Read:
        """Attend to the slots."""
        read: Read = self.score(
            candidates.vectors, state["e_comp"], state["e_auxabsorb"], state["slot_loads"]
        )
        return read

    def train_read(self, state: State, candidates: Candidates) -> TrainRead:
        """The absorbed or the decompressed form, and λ·L_non-neg as the penalty."""
        if self.trains_what_it_serves:
            return TrainRead(self.read(state, candidates), self._penalty(state))
        events = state.events
        worth = self.ages(events.ages)
        _, decomp = self._of_latest(events)
        restored = decomp.mT @ state["e_comp"]  # (B, L, D)
        values = events.vectors * worth
        read: Read = self.score(candidates.vectors, restored, values, worth.squeeze(-1))
        return TrainRead(read, self._penalty(state))

    def _of_latest(self, events: Events) -> tuple[Float[Tensor, "R L"], Float[Tensor, "R L"]]:
        """Both matrices for a history that may be shorter than L, without padding in front."""
        length = events.rows.shape[1]
        return self.w_comp[:, -length:], self.w_decomp[:, -length:]

    def _penalty(self, state: State) -> Float[Tensor, ""] | None:
        if not self.nonneg:
            return None
        negative = self.w_decomp.clamp(max=0).square().sum()
        keys = state["e_comp"].clamp(max=0).square().sum((1, 2)).mean()
        return self.nonneg * (negative + keys)
