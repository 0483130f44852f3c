"""Slots by hash: what a history holds of each item, and of each value of an item's fields, in r rows.

Sums over events: a new event is added in O(F·D), whatever L is, and nothing is tied to a position.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from models.age import bucket_days
from models.base import UserState
from models.record import StateSpec, TensorSpec
from models.schema import PADDING, UNKNOWN
from models.sequence.slots import Slots, slot_means

NUM_HASHES = 4
"""Cells per key of a sketch; near the optimum for 0.2 to 0.7 keys per cell."""
Sketch = Literal["count_min", "signed"]


@dataclass(frozen=True)
class Family:
    """One way to deal events out to slots.

    Attributes:
        column: of the catalogue's fields whose value is the key, or -1: the catalogue row itself.
        size: number of keys.
        slots: rows it has.
    """

    column: int
    size: int
    slots: int


def allot(sizes: Sequence[int], rank: int, width: int) -> list[int]:
    """Slots for families of so many keys each: what makes a family exact, or else a fair share of what is left.

    The smallest family is served first. An exact family has a cell of its own for every key.

    Raises:
        ValueError: fewer slots than families.
    """
    if rank < len(sizes):
        raise ValueError(f"rank: got {rank}, expected at least one slot for {len(sizes)} families")
    slots, left = [0] * len(sizes), rank
    order = sorted(range(len(sizes)), key=sizes.__getitem__)
    for done, family in enumerate(order):
        fair = left // (len(sizes) - done)
        slots[family] = min(fair, -(-sizes[family] // width))
        left -= slots[family]
    slots[order[-1]] += left
    return slots


class HashSlots(Slots):
    """Event l goes, in each family, to the slot that its key (its item, or one of its fields) hashes to.

    A candidate attends to all slots and also reads its own: the row it hashes to, and how often its own key occurs.
    E_auxabsorb holds the sums of embeddings per slot. E_comp holds, per slot, how many events it has and w cells of
    counts of keys: r×D numbers in all for D = w + 1. A family with at least as many cells as keys counts exactly.
    Otherwise its cells are a sketch with `NUM_HASHES` cells per key:

    - "count_min" (Cormode & Muthukrishnan 2005): each event adds one, a candidate reads the minimum. It is never below
      the true count and above it only if all cells collide: for n distinct keys in c cells with probability about
      (1 − e^(−4n/c))⁴, 0.2% for 250 in 4,096.
    - "signed" (count sketch; Charikar, Chen & Farach-Colton 2002): each event adds ±1 by its key, a candidate reads the
      mean of its cells with its own signs: unbiased, but noisy everywhere.

    Nothing of it is learned, so it works for items never seen in training.

    Args:
        item_fields: dense ids of each catalogue row's fields.
        families: how events are dealt out.
        width: w, cells per slot.
        sketch: see above.
        half_life_days: age at which an event counts one half; 0: all count alike.
        seed: of the hash functions; a constant, so a rebuilt model hashes alike.
    """

    own_scalars = 3

    def __init__(
        self,
        item_fields: Int[Tensor, "V F"],
        *,
        families: Sequence[Family],
        width: int,
        sketch: Sketch = "count_min",
        half_life_days: float = 0.0,
        seed: int = 1,
    ) -> None:
        super().__init__()
        self.families, self.width, self.sketch = tuple(families), width, sketch
        self.rank = sum(family.slots for family in families)
        offset = 0
        for m, family in enumerate(families):
            rows = np.arange(len(item_fields))
            self._keep(
                f"key_{m}", rows if family.column < 0 else item_fields[:, family.column].numpy()
            )
            self._deal(m, family, offset, seed + m)
            offset += family.slots
        days = torch.from_numpy(bucket_days())
        weight = 0.5 ** (days / half_life_days) if half_life_days else torch.ones_like(days)
        weight[PADDING] = 0
        self.register_buffer("age_weight", weight, persistent=False)

    def _deal(self, m: int, family: Family, offset: int, seed: int) -> None:
        """Slot, cells and signs of every key of family m, whose first slot is `offset`."""
        cells = family.slots * self.width
        hashes = _hash(family.size, 1 + 2 * NUM_HASHES, seed)
        if cells >= family.size:
            cell = np.arange(family.size)[:, None]
            sign = np.ones_like(cell)
            # Over all of its rows, though its cells may fill fewer: an empty row would cost and say nothing.
            slot = cell[:, 0] * family.slots // family.size
        else:
            cell = hashes[:, 1 : 1 + NUM_HASHES] % cells
            sign = 1 - 2 * (hashes[:, 1 + NUM_HASHES :] % 2 * (self.sketch == "signed"))
            slot = hashes[:, 0] % family.slots
        self._keep(f"slot_{m}", slot + offset)
        self._keep(f"cell_{m}", cell + offset * self.width)
        self._keep(f"sign_{m}", sign)

    def _keep(self, name: str, values: NDArray[np.number]) -> None:
        self.register_buffer(name, torch.from_numpy(values.astype(np.int32)), persistent=False)

    def state_spec(self, dim: int) -> StateSpec:
        """Cells, sums, and how many events are in each slot; the keys of the attention are the means."""
        return (
            TensorSpec("e_comp", (self.rank, self.width)),
            TensorSpec("e_auxabsorb", (self.rank, dim)),
            TensorSpec("counts", (self.rank,)),
        )

    def encode(
        self, rows: Int[Tensor, "B L"], ages: Int[Tensor, "B L"], events: Float[Tensor, "B L D"]
    ) -> UserState:
        """Add every event to its slot and its cells in each family."""
        B, L, D = events.shape
        weight = self.get_buffer("age_weight").to(events.dtype)[ages] * (rows != PADDING)  # (B, L)
        weighted = torch.cat([events, events.new_ones(B, L, 1)], -1) * weight[..., None]
        sums = events.new_zeros(B, self.rank, D + 1)  # the last column sums the weights: counts
        cells = events.new_zeros(B, self.rank * self.width, 1)
        for m in range(len(self.families)):
            key = self._of(f"key_{m}", rows)
            slot, cell, sign = (self._of(f"{name}_{m}", key) for name in ("slot", "cell", "sign"))
            sums = _add_rows(sums, slot, weighted)
            added = (weight * (key > UNKNOWN))[..., None] * sign  # (B, L, hashes)
            cells = _add_rows(cells, cell.flatten(1), added.flatten(1)[..., None])
        return {
            "e_comp": cells.view(B, self.rank, self.width),
            "e_auxabsorb": sums[..., :D],
            "counts": sums[..., D],
        }

    def keys(self, state: UserState) -> Float[Tensor, "B R D"]:
        """c_k = a_k / n_k."""
        return slot_means(state)

    def own_dims(self, dim: int) -> tuple[int, int]:
        """Each family's mean, and its scalars."""
        return len(self.families) * dim, len(self.families) * self.own_scalars

    def own(
        self, state: UserState, rows: Int[Tensor, "B C"], target: Float[Tensor, "B C D"]
    ) -> tuple[Float[Tensor, "B C Do"], Float[Tensor, "B C So"]]:
        """What each candidate's own slots hold: their means; the count of its key, a soft count, their load. O(F·D)."""
        means, scalars = [], []
        norm = target.square().sum(-1) + 1e-2  # (B, C)
        for m in range(len(self.families)):
            key = self._of(f"key_{m}", rows)
            slot = self._of(f"slot_{m}", key)
            total = state["e_auxabsorb"].gather(1, slot[..., None].expand(-1, -1, target.shape[-1]))
            load = state["counts"].gather(1, slot)
            alike = ((total * target).sum(-1) / norm).clamp(min=0)
            means.append(total / (load[..., None] + 1))
            scalars += [self._count(state, m, key), alike, load]
        return torch.cat(means, -1), torch.log1p(torch.stack(scalars, -1))

    def _count(self, state: UserState, m: int, key: Int[Tensor, "B C"]) -> Float[Tensor, "B C"]:
        """How often each key of family m occurs, as far as its cells tell."""
        cell, sign = self._of(f"cell_{m}", key), self._of(f"sign_{m}", key)
        read = state["e_comp"].flatten(1).gather(1, cell.flatten(1)).view(cell.shape) * sign
        count = read.amin(-1) if self.sketch == "count_min" else read.mean(-1).clamp(min=0)
        return count * (key > UNKNOWN)

    def _of(self, buffer: str, index: Int[Tensor, "B K"]) -> Int[Tensor, "B K ..."]:
        return self.get_buffer(buffer)[index].long()


def _add_rows(
    sums: Float[Tensor, "B R D"], row: Int[Tensor, "B K"], values: Float[Tensor, "B K D"]
) -> Float[Tensor, "B R D"]:
    """sums[b, row[b, k]] += values[b, k]."""
    B, R, D = sums.shape
    if torch.compiler.is_exporting():  # ONNX has no index_add
        return sums.scatter_add(1, row[..., None].expand(-1, -1, D), values)
    # Row by row, several times faster than number by number.
    flat = (row + R * torch.arange(B)[:, None]).flatten()
    return sums.flatten(0, 1).index_add(0, flat, values.flatten(0, 1)).view(B, R, D)


def _hash(num: int, width: int, seed: int) -> NDArray[np.int64]:
    """Non-negative pseudo-random integers, [num, width]: the finaliser of splitmix64 over a counter."""
    with np.errstate(over="ignore"):
        x = np.arange(num * width, dtype=np.uint64) + np.uint64(seed) * np.uint64(
            0x9E3779B97F4A7C15
        )
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((x ^ (x >> np.uint64(31))) >> np.uint64(1)).astype(np.int64).reshape(num, width)
