"""Two stages: search the history for K events like the candidate, then attend to these as `Kernel` does.

The attention is the same for all, so what differs is the search alone:
- `CategorySearch`: the latest K of the candidate's category (SIM hard, 2006.05639v2);
- `SoftSearch`: the K largest r_l = (W_b ê_l)·(W_a ê_t), which fits the labels by a loss of its own (SIM soft);
- `HashSearch`: the K whose sign bits differ least (ETA, 2108.04468);
- `KernelSearch`: the K largest weights of the attention itself, of the head with the largest (TWIN, 2302.02352v2).
Of equal scores the newer event wins. `Collisions` has no second stage: an event counts by the share of hash buckets it
shares with the candidate (SDIM, 2205.10249).
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
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
from builder.experiments.promotions.blocks.kernel import Kernel, read_events
from builder.experiments.promotions.embeddings import DIM

KEPT = 64
BITS, TAU = 48, 3
HIDDEN = 32
NEWER = 1e-3
"""What a score gains from the oldest event to the newest: it breaks ties."""


class Search(Kernel):
    """Kernel attention over the K events of the best score."""

    def encode(self, history: History) -> State:
        """Events, and what the search needs."""
        return super().encode(history) | {"rows": history.rows}

    def score(
        self, state: State, candidates: Candidates, exponent: Float[Tensor, "B HC L"]
    ) -> Float[Tensor, "B C L"]:
        """Of each event for each candidate."""
        raise NotImplementedError

    def read(self, state: State, candidates: Candidates) -> Read:
        """Search, then attend."""
        exponent = self.kernel.exponent(candidates.vectors, state["events"], state["log_age"])
        with torch.no_grad():
            chosen = self._choose(self.score(state, candidates, exponent), state["rows"])
        B, C, L = chosen.shape
        weight = exponent.exp().view(B, HEADS, C, L) * chosen[:, None]
        return read_events(weight.flatten(1, 2), state["events"])

    def _choose(
        self, score: Float[Tensor, "B C L"], rows: Int[Tensor, "B L"]
    ) -> Float[Tensor, "B C L"]:
        """1 at the K best real events."""
        L = score.shape[-1]
        newer = torch.arange(L, device=score.device) * (NEWER / L)
        score = (score + newer).masked_fill((rows == 0)[:, None], -torch.inf)
        best = score.topk(min(KEPT, L), sorted=False)
        return torch.zeros_like(score).scatter_(2, best.indices, (best.values > -torch.inf).float())


class CategorySearch(Search):
    """SIM hard: the latest K events of the candidate's category."""

    category: Tensor

    def __init__(self, item_fields: Int[Tensor, "V F"]) -> None:
        super().__init__()
        self.register_buffer("category", item_fields[:, 1].contiguous(), persistent=False)

    def score(
        self, state: State, candidates: Candidates, exponent: Float[Tensor, "B HC L"]
    ) -> Float[Tensor, "B C L"]:
        """0 for the same category, −∞ for another: ties are broken by age."""
        there, wanted = self.category[state["rows"]], self.category[candidates.rows]
        same = there[:, None] == wanted[..., None]
        return torch.zeros_like(same, dtype=exponent.dtype).masked_fill(~same, -torch.inf)


class SoftSearch(Search):
    """SIM soft: the K largest learned inner products."""

    def __init__(self) -> None:
        super().__init__()
        start = torch.linalg.qr(torch.randn(DIM, DIM)).Q[:, :HIDDEN]
        self.w_a, self.w_b = nn.Parameter(start), nn.Parameter(start.clone())
        self.tower = nn.Sequential(
            nn.Linear(2 * DIM, HIDDEN), nn.LeakyReLU(0.1), nn.Linear(HIDDEN, 1)
        )

    def score(
        self, state: State, candidates: Candidates, exponent: Float[Tensor, "B HC L"]
    ) -> Float[Tensor, "B C L"]:
        """r_l."""
        return (candidates.vectors @ self.w_a) @ (state["events"] @ self.w_b).mT

    def penalty(
        self, history: History, state: State, candidates: Candidates, target: Target
    ) -> Float[Tensor, ""] | None:
        """The loss of an MLP of [Σ_l r_l ê_l ⊕ ê_t]: what teaches the search, since a choice has no gradient."""
        folded = (history.events @ self.w_b).mT @ history.events  # (B, HIDDEN, D)
        length = (history.rows > 0).sum(1).clamp(min=1)[:, None, None]
        interest = (candidates.vectors @ self.w_a) @ folded / length.sqrt()
        logit = self.tower(torch.cat([interest, candidates.vectors], -1)).squeeze(-1)
        loss = F.binary_cross_entropy_with_logits(
            logit, target.label, target.weight, reduction="sum"
        )
        return loss / len(logit)


class HashSearch(Search):
    """ETA: the K events with the most of 48 sign bits in common."""

    planes: Tensor

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.register_buffer("planes", torch.randn(DIM, BITS, generator=generator))

    def score(
        self, state: State, candidates: Candidates, exponent: Float[Tensor, "B HC L"]
    ) -> Float[Tensor, "B C L"]:
        """Bits in common less bits that differ."""
        wanted, there = (
            2 * (vectors @ self.planes > 0).float() - 1
            for vectors in (candidates.vectors, state["events"])
        )
        return wanted @ there.mT


class KernelSearch(Search):
    """TWIN: the K events with the largest weight in any head."""

    def score(
        self, state: State, candidates: Candidates, exponent: Float[Tensor, "B HC L"]
    ) -> Float[Tensor, "B C L"]:
        """The exponent, which orders as the weight does."""
        B, _, L = exponent.shape
        return exponent.view(B, HEADS, -1, L).amax(1)


class Collisions(Block):
    """SDIM: w(t, l) = g_l · share of the 16 signatures of 3 sign bits that t and l have in common.

    What is computed is what tables of 16 · 2³ bucket sums of [ê ⊕ 1] hold: that table is the state.
    """

    masses, heads = 1, 1
    planes: Tensor
    powers: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.ages = AgeBias(1)
        generator = torch.Generator().manual_seed(1)
        self.register_buffer("planes", torch.randn(DIM, BITS, generator=generator))
        self.register_buffer("powers", 2.0 ** torch.arange(TAU), persistent=False)

    def encode(self, history: History) -> State:
        """Sums of each bucket."""
        hot = self._buckets(history.events)  # (B, L, G · 2^τ)
        values = F.pad(history.events, (0, 1), value=1.0) * self.ages(history.ages)
        return {"sums": hot.mT @ values}

    def read(self, state: State, candidates: Candidates) -> Read:
        """The mean over signatures of the candidate's own buckets."""
        summed = self._buckets(candidates.vectors) @ state["sums"] * (TAU / BITS)
        mass = summed[..., -1:]
        return Read(mass, summed[..., :-1] / (1 + mass))

    def _buckets(self, vectors: Float[Tensor, "B K D"]) -> Float[Tensor, "B K GS"]:
        """One-hot buckets of each signature."""
        bits = (vectors.detach() @ self.planes > 0).float()
        bucket = bits.view(*bits.shape[:-1], -1, TAU) @ self.powers  # (B, K, G)
        every = torch.arange(2**TAU, device=vectors.device)
        hot: Tensor = bucket[..., None] == every
        return hot.to(vectors.dtype).flatten(2)

    def state_bytes(self, length: int) -> int:
        """G · 2^τ rows of D + 1 numbers."""
        return 2 * (BITS // TAU) * (1 << TAU) * (DIM + 1)
