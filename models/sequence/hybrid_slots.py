"""Slots by content and by hash in one state of r rows: content slots hold tastes, hash slots hold identities."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from models.base import UserState
from models.contract.record import StateSpec, TensorSpec
from models.sequence.hash_slots import HashSlots
from models.sequence.slots import ContentSlots, Slots, slot_means


class HybridSlots(Slots):
    """The content slots are the first rows. Only the hash slots have tables of counts."""

    def __init__(self, content: ContentSlots, hashed: HashSlots) -> None:
        super().__init__()
        self.content, self.hashed = content, hashed
        self.rank = content.rank + hashed.rank

    def state_spec(self, dim: int) -> StateSpec:
        """That of the hash slots, with more rows of sums and counts."""
        *table, _, _ = self.hashed.state_spec(dim)
        sums, counts = (self.rank, dim), (self.rank,)
        return *table, TensorSpec("e_auxabsorb", sums), TensorSpec("counts", counts)

    def encode(
        self, rows: Int[Tensor, "B L"], ages: Int[Tensor, "B L"], events: Float[Tensor, "B L D"]
    ) -> UserState:
        """Fold the history into both kinds of slots."""
        content, hashed = (part.encode(rows, ages, events) for part in (self.content, self.hashed))
        joined = {name: torch.cat([content[name], hashed[name]], 1) for name in content}
        return hashed | joined

    def keys(self, state: UserState) -> Float[Tensor, "B R D"]:
        """Means c_k = a_k / n_k."""
        return slot_means(state)

    def own_dims(self, dim: int) -> tuple[int, int]:
        """Widths of what the hash slots' `own` returns."""
        return self.hashed.own_dims(dim)

    def own(
        self, state: UserState, rows: Int[Tensor, "B C"], target: Float[Tensor, "B C D"]
    ) -> tuple[Float[Tensor, "B C Do"], Float[Tensor, "B C So"]]:
        """What each candidate's own hash slots hold."""
        sums = {name: state[name][:, self.content.rank :] for name in ("e_auxabsorb", "counts")}
        return self.hashed.own(state | sums, rows, target)
