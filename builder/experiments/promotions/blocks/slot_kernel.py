"""The kernel over slots instead of events, by moments.

A slot holds n events whose mean is m (inside the unit ball of each field). The exact sum over its events is
n · E[exp(Σ_f τ_f (q_f · k_f − 1))]; to second order in the spread of k_f around m_f, which |m_f| < 1 tells,

    w_h(t, slot) = n_h exp(Σ_f τ_hf (q_f · m_f − 1) + Σ_f γ_f (1 − |m_f|²) τ_hf² / (2 (d_f + τ_hf)))

with γ learned from 1; d_f is the field's width. (τ² / 2d is the Gaussian term; d + τ keeps it from growing past what a
sphere allows.) n_h = Σ_l g_h(age) counts events as head h's age bias does. So a state is r means and r·H counts,
r·(D + H) numbers; it is exact where a slot's events are all the same. Means of sums: adding an event is O(D) and exact.
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
    Target,
)
from builder.experiments.promotions.blocks.kernel import FieldKernel, read_events
from builder.experiments.promotions.embeddings import DIM, WIDTHS

DISTILLED = 0.5
"""Weight of the distillation in the loss."""


class SlotKernel(Block):
    """Reads slots {"mean": [B, R, D], "count": [B, R, H]}; subclasses assign events to slots.

    Args:
        rank: r.
        distilled: training also fits masses to those of the same kernel over all events.
    """

    width: Tensor

    def __init__(self, rank: int, *, distilled: bool = False) -> None:
        super().__init__()
        self.rank, self.distilled = rank, distilled
        self.kernel, self.ages = FieldKernel(), AgeBias(HEADS)
        self.gamma = nn.Parameter(torch.ones(len(WIDTHS)))
        self.register_buffer("width", torch.tensor(WIDTHS, dtype=torch.float32), persistent=False)

    def encode(self, history: History) -> State:
        """Assign events to slots; keep means and counts."""
        share = self.deal(history)  # (B, L, R)
        real = (history.ages > 0).to(share.dtype)[..., None]
        share = share * real
        values = F.pad(history.events, (0, 4), value=1.0)
        summed = share.mT @ values  # (B, R, D + 4)
        count = share.mT @ self.ages(history.ages)  # (B, R, H)
        mean = summed[..., :DIM] / (summed[..., DIM : DIM + 1] + 1e-6)
        return {"mean": mean, "count": count}

    def deal(self, history: History) -> Float[Tensor, "B L R"]:
        """Share of each event that goes to each slot."""
        raise NotImplementedError

    def read(self, state: State, candidates: Candidates) -> Read:
        """Attend to slots."""
        mean = state["mean"]
        squares = mean.square() @ self.kernel.spread.mT  # (B, R, F)
        tau = self.kernel.tau()
        growth = tau.square() / (2 * (self.width + tau))  # (H, F)
        spread = (1 - squares).clamp(min=0) * self.gamma  # (B, R, F)
        shift = (state["count"] + 1e-9).log() + spread @ growth.mT
        weight = self.kernel.exponent(candidates.vectors, mean, shift).exp()
        return read_events(weight, mean)

    def penalty(
        self, history: History, state: State, candidates: Candidates, target: Target
    ) -> Float[Tensor, ""] | None:
        """Mean squared difference of asinh masses from those over all events, which get no gradient."""
        if not self.distilled:
            return None
        with torch.no_grad():
            exponent = self.kernel.exponent(
                candidates.vectors, history.events, self.ages.log(history.ages)
            )
            exact = exponent.exp().sum(-1).view(len(exponent), HEADS, -1).transpose(1, 2)
        gap = self.read(state, candidates).mass.asinh() - exact.asinh()
        loss: Tensor = DISTILLED * gap.square().mean() * gap.shape[1]
        return loss

    def state_bytes(self, length: int) -> int:
        """r·(D + H) numbers, at most as many slots as events."""
        return 2 * min(self.rank, length) * (DIM + HEADS)


class AnchorSlots(SlotKernel):
    """Slots by content: softmax over anchors a of sharpened likeness Σ_f α_f cos_f(l, a), α learned.

    An anchor is a well-sold catalogue item (each of another type) plus a learned step; it moves with its embedding.
    Additive: a new event goes to its slots without looking at the others.

    Args:
        anchors: catalogue rows, one for each slot.
        distilled: see `SlotKernel`.
    """

    anchors: Tensor

    def __init__(self, anchors: Tensor, *, distilled: bool = False) -> None:
        super().__init__(len(anchors), distilled=distilled)
        self.register_buffer("anchors", anchors, persistent=False)
        self.step = nn.Parameter(torch.zeros(len(anchors), DIM))
        self.alpha = nn.Parameter(torch.tensor([12.0, 20.0, 15.0, 4.0]))

    def deal(self, history: History) -> Float[Tensor, "B L R"]:
        """Softmax over slots."""
        wanted = history.anchors(self.anchors) + self.step
        scale = self.alpha.clamp(0, 60) @ self.kernel.spread  # (D,)
        return (history.events @ (wanted * scale).mT).softmax(-1)


class ClusterSlots(SlotKernel):
    """Slots of a visit's own: k-means over its events, three rounds from events spread evenly over the history.

    Clusters are chosen, not learned (no gradient); means and counts are. As TWIN V2 (2407.16357) compresses a life-long
    history by clusters; here a cluster keeps its count, and its spread counts, too.
    """

    scale: Tensor

    def __init__(self, rank: int, *, distilled: bool = False) -> None:
        super().__init__(rank, distilled=distilled)
        weight = torch.tensor([1.0, 1.0, 1.0, 0.5]) @ self.kernel.spread
        self.register_buffer("scale", weight, persistent=False)

    @torch.no_grad()
    def deal(self, history: History) -> Float[Tensor, "B L R"]:
        """One-hot of the nearest centre."""
        points = history.events * self.scale
        L = points.shape[1]
        size = (history.rows > 0).sum(1)  # (B,)
        rank = torch.arange(self.rank, device=points.device)
        # Evenly spread over the real events, the newest always among them; padding where there are too few.
        at = L - 1 - (rank * size.clamp(min=self.rank)[:, None] / self.rank).long()
        centre = points.gather(1, at.clamp(0, L - 1)[..., None].expand(-1, -1, DIM))
        # A centre on padding is pushed away: it gets no event.
        empty = (rank >= size[:, None]).to(points.dtype)
        share = points.new_zeros(())
        for round_ in range(4):
            near = (
                points @ centre.mT - 0.5 * centre.square().sum(-1)[:, None] - 1e3 * empty[:, None]
            )
            share = (near.argmax(-1)[..., None] == rank).to(points.dtype)
            share = share * (history.rows > 0)[..., None]
            if round_ < 3:
                count = share.sum(1)  # (B, R)
                moved = share.mT @ points / count.clamp(min=1)[..., None]
                centre = torch.where((count > 0)[..., None], moved, centre)
        return share
