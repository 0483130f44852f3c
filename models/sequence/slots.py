"""Slots: the ways in which LREA folds a history of L events into r rows.

By position (the paper), by content, by hash (`hash_slots.py`), or by content and hash (`hybrid_slots.py`). All have r
rows of width D and cost O(r·D) per candidate. Content and hash slots are sums over events: a new event is
state += a(e) ⊗ e, whatever L is.
"""

from abc import ABC, abstractmethod
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.base import UserState
from models.contract.record import StateSpec, TensorSpec
from models.contract.schema import PADDING


class Slots(nn.Module, ABC):
    """The interface of all kinds of slots.

    Attributes:
        rank: r, number of slots.
    """

    rank: int

    @abstractmethod
    def state_spec(self, dim: int) -> StateSpec:
        """Spec of the tensors that `encode` returns, for events of width `dim`."""

    @abstractmethod
    def encode(
        self, rows: Int[Tensor, "B L"], ages: Int[Tensor, "B L"], events: Float[Tensor, "B L D"]
    ) -> UserState:
        """Fold a history into the slots.

        Args:
            rows: catalogue rows of the events.
            ages: age bucket of each event.
            events: embedding of each event; zero at padding.
        """

    @abstractmethod
    def keys(self, state: UserState) -> Float[Tensor, "B R D"]:
        """c_k, the keys that a candidate attends to."""

    def own_dims(self, dim: int) -> tuple[int, int]:
        """Widths of what `own` returns."""
        return 0, 0

    def own(
        self, state: UserState, rows: Int[Tensor, "B C"], target: Float[Tensor, "B C D"]
    ) -> tuple[Float[Tensor, "B C Do"], Float[Tensor, "B C So"]]:
        """Vectors and scalars that a candidate reads from its own slots; by default none."""
        return target[..., :0], target[..., :0]


class PositionSlots(Slots):
    """E_comp = W_compᵀ E_s (keys), E_auxabsorb = W_decomp E_s (values): LREA Eq. 4 and 9.

    The newest event has the last position; shorter histories are padded in front with zeros.

    Args:
        length: L.
        rank: r.
        decompression: "free", or a "softmax" over slots, by which W_decomp ≥ 0 and W_decompᵀ·1_r = 1_L.
        init: initial weights. "block": slot k owns positions kL/r … (k+1)L/r, W_comp takes their mean, W_decomp their
            sum. "gaussian": W_comp with σ = L^-½, W_decomp with σ = r^-½, as in a naive reading of the paper.
    """

    def __init__(
        self,
        *,
        length: int,
        rank: int,
        decompression: Literal["free", "softmax"],
        init: Literal["block", "gaussian"],
    ) -> None:
        super().__init__()
        self.rank, self.softmax = rank, decompression == "softmax"
        if init == "block":
            owner = torch.arange(length) * rank // length
            block = (owner == torch.arange(rank)[:, None]).float()  # (R, L)
            w_comp = (block / block.sum(1, keepdim=True).clamp(min=1)).mT
            # With 8, the owner's softmax weight starts near 1 for r up to a few hundred.
            w_decomp = 8 * block if self.softmax else block
        else:
            w_comp = torch.randn(length, rank) * length**-0.5
            w_decomp = torch.randn(rank, length) * rank**-0.5
        self.w_comp = nn.Parameter(w_comp.contiguous())
        self.w_decomp_raw = nn.Parameter(w_decomp)

    @property
    def w_decomp(self) -> Float[Tensor, "R L"]:
        """W_decomp, after the softmax for `decompression` = "softmax"."""
        return self.w_decomp_raw.softmax(0) if self.softmax else self.w_decomp_raw

    def state_spec(self, dim: int) -> StateSpec:
        """Keys E_comp and values E_auxabsorb."""
        return TensorSpec("e_comp", (self.rank, dim)), TensorSpec("e_auxabsorb", (self.rank, dim))

    def encode(
        self, rows: Int[Tensor, "B L"], ages: Int[Tensor, "B L"], events: Float[Tensor, "B L D"]
    ) -> UserState:
        """Multiply the history with both matrices."""
        return {"e_comp": self.w_comp.mT @ events, "e_auxabsorb": self.w_decomp @ events}

    def keys(self, state: UserState) -> Float[Tensor, "B R D"]:
        """Keys c_k, the rows of E_comp."""
        return state["e_comp"]


class ContentSlots(Slots):
    """Event l goes to slot k with weight softmax_k(P e_l + p): r learned prototypes, for any L.

    Args:
        dim: D.
        rank: r.
        is_hard: whether an event goes to its likeliest slot alone, as in vector quantisation (VQL, arXiv:2508.17125).
            Gradients are those of the softmax (straight-through).

    Initialisation: rows of P are random unit vectors times 6 (at 0.5 the slots do not specialise); p is zero.
    """

    def __init__(self, *, dim: int, rank: int, is_hard: bool = False) -> None:
        super().__init__()
        self.rank, self.is_hard = rank, is_hard
        self.prototypes = nn.Linear(dim, rank)
        with torch.no_grad():
            self.prototypes.weight.copy_(6 * nn.functional.normalize(torch.randn(rank, dim), dim=1))
            self.prototypes.bias.zero_()

    def state_spec(self, dim: int) -> StateSpec:
        """Sum of embeddings and number of events of each slot; the keys are the means."""
        return TensorSpec("e_auxabsorb", (self.rank, dim)), TensorSpec("counts", (self.rank,))

    def encode(
        self, rows: Int[Tensor, "B L"], ages: Int[Tensor, "B L"], events: Float[Tensor, "B L D"]
    ) -> UserState:
        """Sum the events, by their weights, into the slots."""
        weight = self.prototypes(events).softmax(-1)  # (B, L, R)
        if self.is_hard:
            likeliest = weight.argmax(-1, keepdim=True)  # (B, L, 1)
            one_hot = (torch.arange(self.rank) == likeliest).to(weight.dtype)
            weight = one_hot + (weight - weight.detach()) if self.training else one_hot
        weight = weight * (rows != PADDING)[..., None]
        return {"e_auxabsorb": weight.mT @ events, "counts": weight.sum(1)}

    def keys(self, state: UserState) -> Float[Tensor, "B R D"]:
        """Means c_k = a_k / n_k."""
        return slot_means(state)


def slot_means(state: UserState) -> Float[Tensor, "B R D"]:
    """a_k / n_k, zero for an empty slot. Computed online, so that the state holds no keys."""
    return state["e_auxabsorb"] / (state["counts"][..., None] + 1e-3)
