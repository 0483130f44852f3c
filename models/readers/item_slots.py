"""One slot for each item of a history: attention to all events at the cost of r keys.

Events of one item have one vector e_i, so that attention sums over items instead of events, exactly for the kernel:

    Σ_l exp(k_h(t, l) + b_h[age of l]) = Σ_i exp(k_h(t, i)) · n_hi,   n_hi = Σ_{l: item i} exp(b_h[age of l])

A slot is the item's catalogue row and its n_h: 4 + 4·H bytes in fp32, 4 + 2·H in fp16, whatever the width D; e_i is
looked up when the state is read. With at most r different items in a history nothing is lost; of more, those with the
largest sums are kept. Additive up to the ages: a new event adds 1 to the sums of its item.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from models.base import UserState
from models.blocks.attention.age_bias import AgeBias
from models.blocks.lookup.item_runs import largest_items
from models.blocks.reading import Candidates, Events, Read
from models.contract.schema import PADDING
from models.contract.state_spec import StateSpec, TensorSpec
from models.readers.base import Reader, State
from models.readers.item_scores import Items, ItemScore


class ItemSlots(Reader):
    """The r items with the largest sums.

    Args:
        length: L.
        rank: r, at most L.
        score: of the items, in H heads.
    """

    def __init__(self, length: int, rank: int, score: ItemScore) -> None:
        super().__init__()
        self.rank, self.heads = min(rank, length), score.heads
        self.masses = self.pooled = self.heads
        self.score, self.ages = score, AgeBias(self.heads)

    def state_spec(self) -> StateSpec:
        """Row of each item, the one with the largest sum first, and its sum in each head; zeros behind the last."""
        return (
            TensorSpec("slot_items", (self.rank,), "int32", filled="first", ids="rows"),
            TensorSpec("slot_sums", (self.rank, self.heads), filled="first"),
        )

    def encode(self, events: Events) -> UserState:
        """Sum the age weights of each item's events."""
        items, sums, _ = self._largest(events, self.ages(events.ages))
        return {"slot_items": items.int(), "slot_sums": sums}

    def _largest(self, events: Events, worth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`largest_items` by the heads' sums, which are the first columns of `worth`."""
        return largest_items(
            events.rows, events.ages, worth, self.rank, by=self.heads, above=PADDING
        )

    def read(self, state: State, candidates: Candidates) -> Read:
        """Attend to the items; the state does not hold the ages of their latest events."""
        rows = state["slot_items"].long()
        return self._attend(state, rows, state["slot_sums"], torch.zeros_like(rows), candidates)

    def _attend(
        self,
        state: State,
        rows: Int[Tensor, "B r"],
        sums: Float[Tensor, "B r H"],
        ages: Int[Tensor, "B r"],
        candidates: Candidates,
    ) -> Read:
        read: Read = self.score(candidates.vectors, Items(rows, state.look_up(rows), sums, ages))
        return read
