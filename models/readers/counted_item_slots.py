"""Item slots that also count, exactly: attention and exact counts in one state.

Of each item, a slot holds the sums of `models/readers/item_slots.py`, and for each key (the item and each field of its
vector) Σ_l exp(b_k[age of l]) over the item's events. Those are the counts of `models/readers/counts.py`, since events
of one item share all keys. So with at most r different items in a history it reads what `KernelReader` and
`CountReader` read.
"""

import torch
from jaxtyping import Int
from torch import Tensor

from models.base import UserState
from models.blocks.attention.age_bias import AgeBias
from models.blocks.reading import Candidates, Events, Read
from models.contract.age import NUM_AGES
from models.contract.state_spec import StateSpec, TensorSpec
from models.readers.base import State
from models.readers.counts import LatestAge, count_matches
from models.readers.item_scores import ItemScore
from models.readers.item_slots import ItemSlots


class CountedItemSlots(ItemSlots):
    """The r items with the largest sums. 4 + 4·(H + K) bytes an item in fp32, 4 + 2·(H + K) in fp16.

    Args:
        length: L.
        rank: r, at most L.
        score: of the items, in H heads.
        keys: K keys of every catalogue row, as `match_keys` returns them; the first column is the item.
    """

    keys: Tensor

    def __init__(self, length: int, rank: int, score: ItemScore, keys: Int[Tensor, "V K"]) -> None:
        super().__init__(length, rank, score)
        self.register_buffer("keys", keys, persistent=False)
        self.sizes = (keys.max(0).values + 1).tolist()
        self.masses += len(self.sizes) + 1
        self.count_ages, self.latest = AgeBias(len(self.sizes)), LatestAge()

    def state_spec(self) -> StateSpec:
        """Row · 50 + age bucket of the latest event of each item, and its sums in each head and for each key."""
        return (
            TensorSpec("slot_items", (self.rank,), "int32", filled="first", ids="rows and ages"),
            TensorSpec("slot_sums", (self.rank, self.heads + len(self.sizes)), filled="first"),
        )

    def encode(self, events: Events) -> UserState:
        """Sum the age weights of each item's events."""
        worth = torch.cat([self.ages(events.ages), self.count_ages(events.ages)], -1)
        items, sums, age = self._largest(events, worth)
        return {"slot_items": (items * NUM_AGES + age).int(), "slot_sums": sums}

    def read(self, state: State, candidates: Candidates) -> Read:
        """Attend to the items, and count them."""
        packed, heads = state["slot_items"].long(), self.heads
        items, age, sums = packed // NUM_AGES, packed % NUM_AGES, state["slot_sums"]
        read = self._attend(state, items, sums[..., :heads], age, candidates)
        there, wanted = self.keys[items], self.keys[candidates.rows]
        counts, latest = count_matches(wanted, there, sums[..., heads:], age, self.sizes)
        mass = [read.mass, counts, self.latest(latest)]
        return Read(torch.cat(mass, -1), read.pooled)
