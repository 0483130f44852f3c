"""Slots by hash: sums and counts of a history's items, and of the values of their fields, in r rows.

They are sums over events: nothing depends on positions, and a new event changes one row per family, whatever L is.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from models.base import UserState
from models.blocks.count_table import count_keys
from models.blocks.top_k import gather_events
from models.contract.age import bucket_days
from models.contract.record import StateSpec, TensorSpec
from models.contract.schema import PADDING, UNKNOWN
from models.sequence.slots import Slots, slot_means


@dataclass(frozen=True)
class Family:
    """One way to assign events to slots.

    Attributes:
        column: index of the item field whose value is the key; -1 takes the catalogue row as the key.
        size: number of possible keys.
        slots: number of slots.
    """

    column: int
    size: int
    slots: int


def allot(sizes: Sequence[int], rank: int, width: int) -> list[int]:
    """Number of slots of each family: enough for all its keys, or else an equal share of the slots that are left.

    The smallest family is served first.

    Args:
        sizes: number of possible keys of each family.
        rank: number of slots of all families together.
        width: keys that a slot holds.

    Raises:
        ValueError: there are fewer slots than families.
    """
    if rank < len(sizes):
        raise ValueError(f"rank: got {rank}, expected at least one slot for {len(sizes)} families")
    slots, left = [0] * len(sizes), rank
    order = sorted(range(len(sizes)), key=sizes.__getitem__)
    for num_served, family in enumerate(order):
        equal_share = left // (len(sizes) - num_served)
        slots[family] = min(equal_share, -(-sizes[family] // width))
        left -= slots[family]
    slots[order[-1]] += left
    return slots


class HashSlots(Slots):
    """In each family, event l goes to the slot that its key (its item, or one of its fields) hashes to.

    A candidate attends to all slots and also reads its own: the row that it hashes to, and the count of its own key.
    E_auxabsorb holds the sum of embeddings per slot. E_comp holds a table per slot: w keys and the count of each. With
    the number of the slot's events, that makes r×D numbers for D = 2w + 1.

    A count is exact while the slot has seen at most w different keys. With more, the slot keeps the most frequent, and
    the counts of the others are zero; so no count is too high. A family with room for all possible keys drops none. Of
    n different keys in a family of R rows, a slot has about Poisson(n/R): with 300 keys in 53 rows of 17, one slot in
    30,000 overflows; with 900 keys, one in two.

    Nothing is learned, so it works for items that training has not seen.

    Args:
        item_fields: dense ids of each catalogue row's fields.
        families: the ways to assign events to slots.
        width: w, keys per slot.
        half_life_days: age at which an event counts one half; 0 counts all events alike.
        seed: seed of the hash functions; a constant, so that a rebuilt model hashes alike.

    Attributes:
        own_scalars: number of scalars that a candidate reads from its slot in each family.
    """

    own_scalars = 3

    def __init__(
        self,
        item_fields: Int[Tensor, "V F"],
        *,
        families: Sequence[Family],
        width: int,
        half_life_days: float = 0.0,
        seed: int = 1,
    ) -> None:
        super().__init__()
        self.families, self.width = tuple(families), width
        self.rank = sum(family.slots for family in families)
        self._keep("key_of_row", self._number_keys(item_fields.numpy()))
        self._keep("slot_of_key", _assign(self.families, width, seed))
        known = [np.arange(family.size) > UNKNOWN for family in families]
        self.register_buffer("is_known", torch.from_numpy(np.concatenate(known)), persistent=False)
        days = torch.from_numpy(bucket_days())
        weight = 0.5 ** (days / half_life_days) if half_life_days else torch.ones_like(days)
        weight[PADDING] = 0
        self.register_buffer("age_weight", weight, persistent=False)

    def _number_keys(self, fields: NDArray[np.integer]) -> NDArray[np.integer]:
        """The key of each catalogue row in each family, [V, M]; each family's keys follow those of the one before."""
        first = np.cumsum([0, *(family.size for family in self.families)])
        rows = np.arange(len(fields))
        columns = [rows if f.column < 0 else fields[:, f.column] for f in self.families]
        return np.stack([column + start for column, start in zip(columns, first, strict=False)], 1)

    def _keep(self, name: str, values: NDArray[np.number]) -> None:
        self.register_buffer(name, torch.from_numpy(values.astype(np.int32)), persistent=False)

    def state_spec(self, dim: int) -> StateSpec:
        """Per slot: counted keys and their counts, the sum of embeddings, and the number of events."""
        return (
            TensorSpec("e_comp", (self.rank, self.width)),
            TensorSpec("counted_keys", (self.rank, self.width), "int32"),
            TensorSpec("e_auxabsorb", (self.rank, dim)),
            TensorSpec("counts", (self.rank,)),
        )

    def encode(
        self, rows: Int[Tensor, "B L"], ages: Int[Tensor, "B L"], events: Float[Tensor, "B L D"]
    ) -> UserState:
        """Add every event to its slot and to the count of its key in each family."""
        weight = self.get_buffer("age_weight").to(events.dtype)[ages] * (rows != PADDING)  # (B, L)
        weighted = torch.cat([events, torch.ones_like(events[..., :1])], -1) * weight[..., None]
        key = self._of("key_of_row", rows)  # (B, L, M)
        slot = self._of("slot_of_key", key)
        sums = events.new_zeros(events.shape[0], self.rank, events.shape[-1] + 1)
        # One family after the other: together they would need M times the memory.
        for m in range(len(self.families)):
            sums = _add_rows(sums, slot[..., m], weighted)
        known_weight = weight[..., None] * self.get_buffer("is_known")[key]  # (B, L, M)
        counts, counted = count_keys(
            key.flatten(1),
            known_weight.flatten(1),
            slot.flatten(1),
            rows=self.rank,
            width=self.width,
        )
        return {
            "e_comp": counts,
            "counted_keys": counted.int(),
            "e_auxabsorb": sums[..., :-1],
            "counts": sums[..., -1],
        }

    def keys(self, state: UserState) -> Float[Tensor, "B R D"]:
        """Means c_k = a_k / n_k."""
        return slot_means(state)

    def own_dims(self, dim: int) -> tuple[int, int]:
        """Widths of the families' means and of their scalars."""
        return len(self.families) * dim, len(self.families) * self.own_scalars

    def own(
        self, state: UserState, rows: Int[Tensor, "B C"], target: Float[Tensor, "B C D"]
    ) -> tuple[Float[Tensor, "B C Do"], Float[Tensor, "B C So"]]:
        """What each candidate's own slots hold, for each family. O(M·D).

        Vectors: the mean of the slot. Scalars: log(1 + x) of the count of the candidate's key, of a soft count (the
        sum of embeddings, projected on the candidate) and of the number of events.
        """
        key = self._of("key_of_row", rows)  # (B, C, M)
        slot = self._of("slot_of_key", key)
        total = gather_events(state["e_auxabsorb"], slot)  # (B, C, M, D)
        load = gather_events(state["counts"][..., None], slot)  # (B, C, M, 1)
        norm = target.square().sum(-1) + 1e-2  # (B, C)
        soft_count = ((total * target[:, :, None]).sum(-1) / norm[..., None]).clamp(min=0)
        is_own = gather_events(state["counted_keys"], slot) == key[..., None]
        count = (gather_events(state["e_comp"], slot) * is_own).sum(-1)
        scalars = torch.stack([count, soft_count, load.squeeze(-1)], -1)  # (B, C, M, 3)
        return (total / (load + 1)).flatten(2), torch.log1p(scalars).flatten(2)

    def _of(self, buffer: str, index: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
        return self.get_buffer(buffer)[index].long()


def _assign(families: Sequence[Family], width: int, seed: int) -> NDArray[np.int64]:
    """The slot of every key of every family: evenly where there is room for all keys, else by hash."""
    slots, first = [], 0
    for m, family in enumerate(families):
        if family.size <= family.slots * width:
            slot = np.arange(family.size) * family.slots // family.size
        else:
            slot = _hash(family.size, seed + m) % family.slots
        slots.append(first + slot)
        first += family.slots
    return np.concatenate(slots)


def _add_rows(
    sums: Float[Tensor, "B R D"], row: Int[Tensor, "B K"], values: Float[Tensor, "B K D"]
) -> Float[Tensor, "B R D"]:
    """sums[b, row[b, k]] += values[b, k]."""
    B, R, D = sums.shape
    if torch.compiler.is_exporting():  # ONNX has no index_add
        return sums.scatter_add(1, row[..., None].expand(-1, -1, D), values)
    # Adding whole rows is several times faster than adding single numbers.
    flat = (row + R * torch.arange(B)[:, None]).flatten()
    return sums.flatten(0, 1).index_add(0, flat, values.flatten(0, 1)).view(B, R, D)


def _hash(num: int, seed: int) -> NDArray[np.int64]:
    """Non-negative pseudo-random integers: the finaliser of splitmix64, applied to a counter."""
    with np.errstate(over="ignore"):
        x = np.arange(num, dtype=np.uint64) + np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((x ^ (x >> np.uint64(31))) >> np.uint64(1)).astype(np.int64)
