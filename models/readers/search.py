"""Two stages: search the history for K events like the candidate, then attend to these by the kernel.

The attention is the same for all, so what differs is the search alone:

- `CategorySearch`: the latest K with the candidate's value of a field (SIM hard, 2006.05639v2)
- `SoftSearch`: the K largest r_l = (W_bᵀ e_l)·(W_aᵀ e_t), which fits the labels by a loss of its own (SIM soft)
- `HashSearch`: the K whose signatures differ least (ETA, 2108.04468)
- `KernelSearch`: the K largest weights of the attention itself, of the head with the largest (TWIN, 2302.02352v2)

Of events with (nearly) equal scores the newer one wins. The choice has no gradient.
"""

from abc import abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.blocks.attention.age_bias import AgeBias
from models.blocks.attention.kernel import ONES, FieldKernel, from_sums
from models.blocks.checks import check_at_least
from models.blocks.lookup.sim_hash import SimHash, similarity
from models.blocks.lookup.top_k import RESOLUTION, gather_events, top_k
from models.blocks.reading import Candidates, Events, Read
from models.contract.schema import PADDING
from models.readers.base import HistoryReader, State, TrainRead


class SearchReader(HistoryReader):
    """Kernel attention to the K events of the best score.

    Args:
        length: L.
        widths: width of each field's part of a vector.
        heads: H.
        k: K.
    """

    resolution = RESOLUTION
    """Scores that differ by less are equal: the bonus of the newest of L events over the oldest."""

    def __init__(self, length: int, widths: Sequence[int], heads: int, k: int) -> None:
        super().__init__(length)
        check_at_least(1, k=k)
        self.masses = self.pooled = heads
        self.k = k
        self.kernel, self.ages = FieldKernel(widths, heads), AgeBias(heads)

    @abstractmethod
    def relevance(self, events: Events, candidates: Candidates) -> Float[Tensor, "B C L"]:
        """Score of each event for each candidate; −inf for an event that must not be found."""

    def read(self, state: State, candidates: Candidates) -> Read:
        """Search, then attend."""
        events = state.events
        with torch.no_grad():
            score = self.relevance(events, candidates)
            index, is_found = top_k(
                score, events.rows != PADDING, self.k, newer=self.resolution / self.length
            )
        keys = self.kernel.key(events.vectors, self.ages.log(events.ages))
        return self._attend(candidates.vectors, gather_events(keys, index), is_found)

    def _attend(
        self, target: Float[Tensor, "B C D"], keys: Float[Tensor, "B C K Dq"], is_found: Tensor
    ) -> Read:
        heads, D = self.masses, target.shape[-1]
        query = (
            self.kernel.query(target)
            .view(target.shape[0], heads, -1, keys.shape[-1])
            .transpose(1, 2)
        )
        weight = (query @ keys.mT).exp() * is_found[:, :, None]  # (B, C, H, K)
        values = F.pad(keys[..., :D], (0, ONES), value=1.0)
        return from_sums(weight @ values)


class CategorySearch(SearchReader):
    """The latest K events with the candidate's value of one field.

    Args:
        length: L.
        widths: width of each field's part of a vector.
        heads: H.
        k: K.
        category: value of the field of every catalogue row.
    """

    category: Tensor

    def __init__(
        self, length: int, widths: Sequence[int], heads: int, k: int, category: Int[Tensor, "V"]
    ) -> None:
        super().__init__(length, widths, heads, k)
        self.register_buffer("category", category.clone(), persistent=False)

    def relevance(self, events: Events, candidates: Candidates) -> Float[Tensor, "B C L"]:
        """The position of an event of the category, so the latest win."""
        there, wanted = self.category[events.rows], self.category[candidates.rows]
        is_same = wanted[..., None] == there[:, None]  # (B, C, L)
        position = torch.arange(there.shape[1], device=there.device).float()
        return torch.where(is_same, position, -torch.inf)


class SoftSearch(SearchReader):
    """The K largest learned inner products, which start as likeness: W_a and W_b start equal and orthogonal.

    In training they also predict the labels by themselves: an MLP of [Σ_l r_l e_l ⊕ e_t], whose loss is added.

    Args:
        length: L.
        widths: width of each field's part of a vector.
        heads: H.
        k: K.
        hidden: h, width of W_a and W_b, and of the MLP.
        slope: slope of Leaky ReLU below zero.
    """

    def __init__(
        self,
        length: int,
        widths: Sequence[int],
        heads: int,
        k: int,
        *,
        hidden: int,
        slope: float,
    ) -> None:
        super().__init__(length, widths, heads, k)
        dim = sum(widths)
        start = torch.linalg.qr(torch.randn(max(dim, hidden), max(dim, hidden))).Q
        start = start[:dim, :hidden].contiguous()
        self.w_a, self.w_b = nn.Parameter(start), nn.Parameter(start.clone())
        self.tower = nn.Sequential(
            nn.Linear(2 * dim, hidden), nn.LeakyReLU(slope), nn.Linear(hidden, 1)
        )

    def relevance(self, events: Events, candidates: Candidates) -> Float[Tensor, "B C L"]:
        """r_l."""
        return (candidates.vectors @ self.w_a) @ (events.vectors @ self.w_b).mT

    def train_read(self, state: State, candidates: Candidates) -> TrainRead:
        """What is served, and the logits of the search unit."""
        events, target = state.events, candidates.vectors
        # r is linear in the candidate, so the sum is one h × D matrix per user: no (B, C, L) tensor is needed.
        folded = (events.vectors @ self.w_b).mT @ events.vectors  # (B, h, D)
        size = (events.rows != PADDING).sum(1).clamp(min=1)[:, None, None]
        interest = (target @ self.w_a) @ folded / size.sqrt()
        logits = self.tower(torch.cat([interest, target], -1)).squeeze(-1)
        return TrainRead(self.read(state, candidates), auxiliary=(logits,))


class HashSearch(SearchReader):
    """The K events with the most sign bits in common.

    Args:
        length: L.
        widths: width of each field's part of a vector.
        heads: H.
        k: K.
        num_bits: m, bits of a signature.
    """

    resolution = 1.0

    def __init__(
        self, length: int, widths: Sequence[int], heads: int, k: int, num_bits: int
    ) -> None:
        super().__init__(length, widths, heads, k)
        check_at_least(1, num_bits=num_bits)
        self.hash = SimHash(dim=sum(widths), num_bits=num_bits)

    def relevance(self, events: Events, candidates: Candidates) -> Float[Tensor, "B C L"]:
        """Bits in common less bits that differ."""
        return similarity(self.hash(candidates.vectors), self.hash(events.vectors))


class KernelSearch(SearchReader):
    """The K events with the largest weight in any head."""

    def relevance(self, events: Events, candidates: Candidates) -> Float[Tensor, "B C L"]:
        """The exponent, which orders as the weight does."""
        shift = self.ages.log(events.ages)
        exponent = self.kernel.exponent(candidates.vectors, events.vectors, shift)
        by_head = exponent.view(exponent.shape[0], self.masses, -1, exponent.shape[-1])
        return by_head.amax(1)
