"""Slots by hash: an event goes to the slot of its item, of its type and of its category.

A candidate reads its own slots (their means, their loads, and how much their sums are like it) and attends to all slots
by the kernel. Without a table of keys, events of other items in a slot are told from its own by embeddings alone.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from builder.experiments.promotions.blocks.base import HEADS, Candidates, History, Read, State
from builder.experiments.promotions.blocks.counts import keys_of, scatter_hash
from builder.experiments.promotions.blocks.slot_kernel import SlotKernel
from builder.experiments.promotions.embeddings import DIM

FAMILIES = (64, 32, 32)
"""Slots for items, types and categories."""


class HashSlots(SlotKernel):
    """r = 128 slots in three families."""

    masses, heads = HEADS + 2 * len(FAMILIES), HEADS + len(FAMILIES)
    slots: Tensor

    def __init__(self, item_fields: Int[Tensor, "V F"]) -> None:
        super().__init__(sum(FAMILIES))
        keys, slots, first = keys_of(item_fields), [], 0
        for family, size in enumerate(FAMILIES):
            key = keys[:, family]
            cell = torch.from_numpy(scatter_hash(int(key.max()) + 1, 31 + family) % size).to(
                key.device
            )
            slots.append(torch.where(key < 0, -1, first + cell[key.clamp(min=0)]))
            first += size
        self.register_buffer("slots", torch.stack(slots, 1), persistent=False)  # (V, 3)

    def deal(self, history: History) -> Float[Tensor, "B L R"]:
        """One in the event's slot of each family."""
        return sum(self._hot(history.rows, f) for f in range(len(FAMILIES)))  # type: ignore[return-value]

    def read(self, state: State, candidates: Candidates) -> Read:
        """The attention over all slots, and the candidate's own slots."""
        attended = super().read(state, candidates)
        load = state["count"][..., :1]
        table = torch.cat([state["mean"], load], -1)  # (B, R, D + 1)
        masses, pooled = [attended.mass], [attended.pooled]
        for f in range(len(FAMILIES)):
            own = self._hot(candidates.rows, f) @ table  # (B, C, D + 1)
            mean, count = own[..., :DIM], own[..., DIM:]
            alike = F.relu((mean * candidates.vectors).sum(-1, keepdim=True)) * count
            masses += [count, alike]
            pooled.append(mean)
        return Read(torch.cat(masses, -1), torch.cat(pooled, -1))

    def _hot(self, rows: Int[Tensor, "B K"], family: int) -> Float[Tensor, "B K R"]:
        every = torch.arange(self.rank, device=rows.device)
        return (self.slots[rows][..., family, None] == every).float()
