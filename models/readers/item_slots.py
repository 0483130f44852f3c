"""One slot for each item of a history: kernel attention to all events at the cost of r keys.

Events of one item have one vector e_i, so that attention sums over items instead of events, exactly:

    Σ_l exp(k_h(t, l) + b_h[age of l]) = Σ_i exp(k_h(t, i)) · n_hi,   n_hi = Σ_{l: item i} exp(b_h[age of l])

A slot is the item's catalogue row and its n_h: 4 + 4·H bytes in fp32, 4 + 2·H in fp16, whatever the width D; e_i is
looked up when the state is read. With at most r different items in a history nothing is lost; of more, those with the
largest sums are kept. Additive up to the ages: a new event adds 1 to the sums of its item.
"""

from collections.abc import Sequence

from jaxtyping import Float, Int
from torch import Tensor

from models.base import UserState
from models.blocks.attention.age_bias import NEVER, AgeBias
from models.blocks.attention.kernel import FieldKernel
from models.blocks.lookup.item_runs import largest_items
from models.blocks.reading import Candidates, Events, Read
from models.contract.schema import PADDING
from models.contract.state_spec import StateSpec, TensorSpec
from models.readers.base import Reader, State
from models.readers.slots import TINY


class ItemSlots(Reader):
    """The r items with the largest sums.

    Args:
        length: L.
        widths: width of each field's part of a vector.
        rank: r, at most L.
        heads: H.
    """

    def __init__(self, length: int, widths: Sequence[int], rank: int, heads: int) -> None:
        super().__init__()
        self.rank = min(rank, length)
        self.masses = self.pooled = heads
        self.kernel, self.ages = FieldKernel(widths, heads), AgeBias(heads)

    def state_spec(self) -> StateSpec:
        """Row of each item, the one with the largest sum first, and its sum in each head; zeros behind the last."""
        return (
            TensorSpec("slot_items", (self.rank,), "int32", filled="first"),
            TensorSpec("slot_sums", (self.rank, self.kernel.heads), filled="first"),
        )

    def encode(self, events: Events) -> UserState:
        """Sum the age weights of each item's events."""
        items, sums, _ = self._largest(events, self.ages(events.ages))
        return {"slot_items": items.int(), "slot_sums": sums}

    def _largest(self, events: Events, worth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`largest_items` by the heads' sums, which are the first columns of `worth`."""
        heads = self.kernel.heads
        return largest_items(events.rows, events.ages, worth, self.rank, by=heads, above=PADDING)

    def read(self, state: State, candidates: Candidates) -> Read:
        """Attend to the items."""
        return self._attend(state, state["slot_items"].long(), state["slot_sums"], candidates)

    def _attend(
        self,
        state: State,
        items: Int[Tensor, "B r"],
        sums: Float[Tensor, "B r H"],
        candidates: Candidates,
    ) -> Read:
        shift = sums.clamp(min=TINY).log() + NEVER * (items == PADDING)[..., None]
        read: Read = self.kernel(candidates.vectors, state.look_up(items), shift)
        return read
