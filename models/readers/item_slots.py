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
from models.blocks.lookup.item_runs import largest_runs, sort_by_item, sum_runs
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
        items, sums, _ = self._entries(events, self.ages(events.ages))
        return {"slot_items": items.int(), "slot_sums": sums}

    def _entries(
        self, events: Events, worth: Float[Tensor, "B L W"]
    ) -> tuple[Int[Tensor, "B r"], Float[Tensor, "B r W"], Int[Tensor, "B r"]]:
        """Row of each item that is kept, the sums of `worth` over its events, the age of its latest event.

        Args:
            events: the history.
            worth: weights of the events; the first H columns, the heads', decide which items are kept.
        """
        row, position = sort_by_item(events.rows)
        worth = worth.gather(1, position[..., None].expand_as(worth))
        sums, is_last = sum_runs(row, worth)
        is_entry = is_last & (row != PADDING)
        total = sums[..., : self.kernel.heads].mean(-1)
        index, is_kept = largest_runs(total, position, is_entry, self.rank)
        kept = sums.gather(1, index[..., None].expand(-1, -1, sums.shape[-1]))
        age = events.ages.gather(1, position.gather(1, index))
        return row.gather(1, index) * is_kept, kept * is_kept[..., None], age * is_kept

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
