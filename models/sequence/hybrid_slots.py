"""Slots by content and by hash side by side: taste from the one, identity from the other, in one state of r rows."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from models.base import UserState
from models.contract.record import StateSpec, TensorSpec
from models.sequence.hash_slots import HashSlots
from models.sequence.slots import ContentSlots, Slots, slot_means


class HybridSlots(Slots):
    """The content slots' rows come first. The tables of counts belong to the hash slots alone."""

    def __init__(self, content: ContentSlots, hashed: HashSlots) -> None:
        super().__init__()
        self.content, self.hashed = content, hashed
        self.rank = content.rank + hashed.rank

    def state_spec(self, dim: int) -> StateSpec:
        """As hash slots have them, with more rows of sums."""
        *table, _, _ = self.hashed.state_spec(dim)
        sums, counts = (self.rank, dim), (self.rank,)
        return *table, TensorSpec("e_auxabsorb", sums), TensorSpec("counts", counts)

    def encode(
        self, rows: Int[Tensor, "B L"], ages: Int[Tensor, "B L"], events: Float[Tensor, "B L D"]
    ) -> UserState:
        """Fold the history twice."""
        content, hashed = (part.encode(rows, ages, events) for part in (self.content, self.hashed))
        joined = {name: torch.cat([content[name], hashed[name]], 1) for name in content}
        return hashed | joined

    def keys(self, state: UserState) -> Float[Tensor, "B R D"]:
        """c_k = a_k / n_k."""
        return slot_means(state)

    def own_dims(self, dim: int) -> tuple[int, int]:
        """Those of the hash slots."""
        return self.hashed.own_dims(dim)

    def own(
        self, state: UserState, rows: Int[Tensor, "B C"], target: Float[Tensor, "B C D"]
    ) -> tuple[Float[Tensor, "B C Do"], Float[Tensor, "B C So"]]:
        """From the hash slots."""
        sums = {name: state[name][:, self.content.rank :] for name in ("e_auxabsorb", "counts")}
        return self.hashed.own(state | sums, rows, target)
