"""The kernel over slots instead of events, by moments.

A slot holds n events whose mean is m (inside the unit ball of each field). The exact sum over its events is
n · E[exp(Σ_f τ_f (q_f · k_f − 1))]; to second order in the spread of k_f around m_f, which |m_f| < 1 tells,

    w_h(t, slot) = n_h exp(Σ_f τ_hf (q_f · m_f − 1) + Σ_f γ_f (1 − |m_f|²) τ_hf² / (2 (d_f + τ_hf)))

with γ learned from 1; d_f is the field's width. (τ² / 2d is the Gaussian term; d + τ keeps it from growing past what a
sphere allows.) n_h = Σ_l g_h(age) counts events as head h's age bias does. So a state is r means and r·H counts; it is
exact where a slot's events are all the same. Means of sums: adding an event is O(D) and exact.
"""

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.base import UserState
from models.blocks.attention.age_bias import AgeBias
from models.blocks.attention.kernel import ONES, FieldKernel
from models.blocks.lookup.matching import NO_KEY, scatter_hash
from models.blocks.reading import Candidates, Events, Read
from models.blocks.unit_items import ItemLayout
from models.contract.schema import FIRST_KNOWN, PADDING
from models.contract.state_spec import StateSpec, TensorSpec
from models.readers.base import Reader, State

NEWEST = 1e-5
"""By how much a centre of equal distance gives way to one that began at a newer event: the same one in any runtime."""
TINY = 1e-9
"""Least count whose logarithm is taken: an empty slot has no weight. (The exporter drops an addition of so little.)"""


class SlotReader(Reader):
    """r slots; subclasses say which events go to which slot.

    Args:
        layout: fields of the vectors.
        rank: r.
        heads: H.
    """

    width: Tensor

    def __init__(self, layout: ItemLayout, rank: int, heads: int) -> None:
        super().__init__()
        self.rank, self.dim = rank, layout.dim
        self.masses = self.pooled = heads
        self.kernel, self.ages = FieldKernel(layout.widths, heads), AgeBias(heads)
        self.gamma = nn.Parameter(torch.ones(len(layout.widths)))
        width = torch.tensor(layout.widths, dtype=torch.float32)
        self.register_buffer("width", width, persistent=False)

    def state_spec(self) -> StateSpec:
        """Means, and counts for each head."""
        return (
            TensorSpec("slot_means", (self.rank, self.dim)),
            TensorSpec("slot_counts", (self.rank, self.kernel.heads)),
        )

    @abstractmethod
    def deal(self, events: Events) -> Float[Tensor, "B L R"]:
        """Share of each event that goes to each slot; at padding it does not matter."""

    def encode(self, events: Events) -> UserState:
        """Deal the events out, and keep means and counts."""
        share = self.deal(events)
        real = (events.ages != PADDING).to(share.dtype)[..., None]
        ones = real.expand(-1, -1, ONES)
        summed = share.mT @ torch.cat([events.vectors, ones, self.ages(events.ages)], -1)
        size = summed[..., self.dim, None]
        mean = summed[..., : self.dim] / size.clamp(min=1e-6)
        return {"slot_means": mean, "slot_counts": summed[..., self.dim + ONES :]}

    def read(self, state: State, candidates: Candidates) -> Read:
        """Attend to the slots."""
        mean = state["slot_means"]
        squares = mean.square() @ self.kernel.spread.mT  # (B, R, F)
        tau = self.kernel.tau()
        growth = tau.square() / (2 * (self.width + tau))  # (H, F)
        spread = (1 - squares).clamp(min=0) * self.gamma
        shift = state["slot_counts"].clamp(min=TINY).log() + spread @ growth.mT
        read: Read = self.kernel(candidates.vectors, mean, shift)
        return read


class ContentSlots(SlotReader):
    """Slots by content: softmax over anchors a of sharpened likeness Σ_f α_f cos_f(l, a), α learned.

    An anchor is a catalogue item plus a learned step; it moves with the item's embedding. Additive: a new event goes to
    its slots without looking at the others.

    Args:
        layout: fields of the vectors.
        anchors: catalogue rows, one for each slot.
        heads: H.
    """

    anchors: Tensor

    def __init__(self, layout: ItemLayout, anchors: Int[Tensor, "R"], heads: int) -> None:
        super().__init__(layout, len(anchors), heads)
        self.register_buffer("anchors", anchors, persistent=False)
        self.step = nn.Parameter(torch.zeros(len(anchors), layout.dim))
        alpha = torch.full((len(layout.widths),), 15.0)
        alpha[0] = 12.0
        self.alpha = nn.Parameter(alpha)

    def deal(self, events: Events) -> Float[Tensor, "B L R"]:
        """Softmax over slots."""
        wanted = events.look_up(self.anchors) + self.step
        scale = self.alpha.clamp(0, 60) @ self.kernel.spread  # (D,)
        return (events.vectors @ (wanted * scale).mT).softmax(-1)


def find_anchors(
    item_fields: Int[Tensor, "V F"], popularity: int | None, count: int
) -> Int[Tensor, "R"]:
    """Popular items of different kinds: the most popular of each value of the first item field, then the others.

    Args:
        item_fields: dense ids of each catalogue row's fields.
        popularity: column whose ids rise with popularity; None takes the items in the catalogue's order.
        count: number of rows. A catalogue with fewer items gives some of them twice.
    """
    fields = item_fields.numpy()[FIRST_KNOWN:]
    fields = fields[fields[:, 0] != PADDING]  # prototypes are no items; they come last
    rank = np.zeros(len(fields)) if popularity is None else -fields[:, popularity]
    order = np.argsort(rank, kind="stable")
    kind = fields[order, 1 if fields.shape[1] > 1 and popularity != 1 else 0]
    _, first = np.unique(kind, return_index=True)
    first = np.sort(first)
    rest = np.setdiff1d(np.arange(len(order)), first, assume_unique=True)
    chosen = order[np.concatenate([first, rest])]
    return torch.from_numpy(np.resize(chosen, count)).long() + FIRST_KNOWN


class ClusterSlots(SlotReader):
    """Slots of a user's own: k-means over the events, from events spread evenly over the history.

    Clusters are chosen, not learned (no gradient); means and counts are. As TWIN V2 (2407.16357) compresses a life-long
    history by clusters; here a cluster keeps its count, and its spread counts, too.

    Args:
        layout: fields of the vectors.
        rank: r.
        heads: H.
        rounds: of k-means.
    """

    def __init__(self, layout: ItemLayout, rank: int, heads: int, rounds: int = 3) -> None:
        super().__init__(layout, rank, heads)
        self.rounds = rounds

    @torch.no_grad()
    def deal(self, events: Events) -> Float[Tensor, "B L R"]:
        """One-hot of the nearest centre."""
        points = events.vectors
        L = points.shape[1]
        is_real = events.rows != PADDING
        size = is_real.sum(1, keepdim=True)
        rank = torch.arange(self.rank, device=points.device)
        # Evenly spread over the real events, the newest always among them; padding where there are too few.
        at = L - 1 - rank * size.clamp(min=self.rank) // self.rank
        at = at.clamp(min=0)[..., None].expand(-1, -1, self.dim)
        centre = points.gather(1, at)
        # A centre on padding is pushed away: it gets no event.
        empty = 1e3 * (rank >= size)[:, None].to(points.dtype)
        share = self._nearest(points, centre, empty)
        for _ in range(self.rounds):
            share = share * is_real[..., None]
            count = share.sum(1)[..., None]  # (B, R, 1)
            moved = share.mT @ points / count.clamp(min=1)
            centre = torch.where(count > 0, moved, centre)
            share = self._nearest(points, centre, empty)
        return share

    def _nearest(
        self,
        points: Float[Tensor, "B L D"],
        centre: Float[Tensor, "B R D"],
        empty: Float[Tensor, "B 1 R"],
    ) -> Float[Tensor, "B L R"]:
        rank = torch.arange(self.rank, device=points.device)
        near = points @ centre.mT - 0.5 * centre.square().sum(-1)[:, None] - empty - NEWEST * rank
        return (near.argmax(-1)[..., None] == rank).to(points.dtype)


class HashSlots(SlotReader):
    """Slots by hash: an event goes to one slot for its item and one for each of its fields.

    A candidate attends to all slots and also reads its own: their means, their counts, and how much their sums are like
    it. Without a table of keys, events of other items in a slot are told from its own by their vectors alone.

    Args:
        layout: fields of the vectors.
        keys: of every catalogue row, as `match_keys` returns them.
        rank: r. Half of the slots are the items', the rest is shared out evenly to the fields.
        heads: H.

    Raises:
        ValueError: there are fewer slots than keys.
    """

    slots: Tensor

    def __init__(self, layout: ItemLayout, keys: Int[Tensor, "V K"], rank: int, heads: int) -> None:
        sizes = _share_out(rank, keys.shape[1])
        super().__init__(layout, rank, heads)
        slots, first = [], 0
        for k, (column, size) in enumerate(zip(keys.unbind(1), sizes, strict=True)):
            cell = torch.from_numpy(scatter_hash(int(column.max()) + 1, 31 + k)) % size
            slots.append(torch.where(column == NO_KEY, -1, first + cell[column]))
            first += size
        self.register_buffer("slots", torch.stack(slots, 1), persistent=False)  # (V, K)
        self.masses, self.pooled = heads + 2 * len(sizes), heads + len(sizes)

    def deal(self, events: Events) -> Float[Tensor, "B L R"]:
        """One in the event's slot of each key."""
        slots = self.slots[events.rows]
        every = [self._hot(slots[..., k]) for k in range(slots.shape[-1])]
        return torch.stack(every).sum(0)

    def read(self, state: State, candidates: Candidates) -> Read:
        """The attention to all slots, and the candidate's own slots."""
        attended = super().read(state, candidates)
        table = torch.cat([state["slot_means"], state["slot_counts"][..., :1]], -1)
        slots = self.slots[candidates.rows]  # (B, C, K)
        own = [self._hot(slots[..., k]) @ table for k in range(slots.shape[-1])]
        means = torch.stack([vector[..., :-1] for vector in own], 2)  # (B, C, K, D)
        counts = torch.stack([vector[..., -1] for vector in own], 2)  # (B, C, K)
        alike = F.relu((means * candidates.vectors[:, :, None]).sum(-1)) * counts
        return Read(
            torch.cat([attended.mass, counts, alike], -1), torch.cat([attended.pooled, means], 2)
        )

    def _hot(self, slot: Int[Tensor, "B N"]) -> Float[Tensor, "B N R"]:
        every = torch.arange(self.rank, device=slot.device)
        return (slot[..., None] == every).to(self.gamma.dtype)


def _share_out(rank: int, keys: int) -> Sequence[int]:
    if rank < keys:
        raise ValueError(f"rank: got {rank}, expected at least {keys}, a slot for each key")
    if keys == 1:
        return [rank]
    others = max(rank // 2 // (keys - 1), 1)
    return [rank - others * (keys - 1)] + [others] * (keys - 1)
