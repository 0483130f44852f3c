"""Slots: how LREA folds a history of L events into r rows. By position (the paper), by content, or by hash.

All three keep r rows of width D and cost O(r·D) per candidate. Content and hash slots are sums over events: a new event
is state += a(e) ⊗ e, whatever L is.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn

from models.base import UserState
from models.record import StateSpec, TensorSpec
from models.schema import PADDING, UNKNOWN

NUM_HASHES = 4
"""Cells per key of the count-min sketch; near the optimum for 0.2 to 0.7 keys per cell."""


class PositionSlots(nn.Module):
    """E_comp = W_compᵀ E_s (keys), E_auxabsorb = W_decomp E_s (values): LREA Eq. 4 and 9.

    Positions are counted from the newest event, which is the last; shorter histories are padded in front with zeros.

    Args:
        length: L.
        rank: r.
        decompression: "free", or "softmax" over slots: then W_decomp ≥ 0 and W_decompᵀ·1_r = 1_L by construction.
        init: "block": slot k owns positions kL/r … (k+1)L/r, W_comp takes their mean, W_decomp their sum; "gaussian":
            W_comp with σ = L^-½, W_decomp with σ = r^-½, as in a naive reading of the paper.
    """

    def __init__(
        self,
        *,
        length: int,
        rank: int,
        decompression: Literal["free", "softmax"],
        init: Literal["block", "gaussian"],
    ) -> None:
        super().__init__()
        self.rank, self.softmax = rank, decompression == "softmax"
        if init == "block":
            owner = torch.arange(length) * rank // length
            block = (owner == torch.arange(rank)[:, None]).float()  # (R, L)
            w_comp = (block / block.sum(1, keepdim=True).clamp(min=1)).mT
            # 8: the owner's softmax weight starts near 1 for r up to a few hundred.
            w_decomp = 8 * block if self.softmax else block
        else:
            w_comp = torch.randn(length, rank) * length**-0.5
            w_decomp = torch.randn(rank, length) * rank**-0.5
        self.w_comp = nn.Parameter(w_comp.contiguous())
        self.w_decomp_raw = nn.Parameter(w_decomp)

    @property
    def w_decomp(self) -> Float[Tensor, "R L"]:
        """W_decomp, after the softmax if there is one."""
        return self.w_decomp_raw.softmax(0) if self.softmax else self.w_decomp_raw

    def state_spec(self, dim: int) -> StateSpec:
        """Keys and values."""
        return TensorSpec("e_comp", (self.rank, dim)), TensorSpec("e_auxabsorb", (self.rank, dim))

    def encode(self, rows: Int[Tensor, "B L"], events: Float[Tensor, "B L D"]) -> UserState:
        """Compress."""
        return {"e_comp": self.w_comp.mT @ events, "e_auxabsorb": self.w_decomp @ events}

    def keys(self, state: UserState) -> Float[Tensor, "B R D"]:
        """c_k."""
        return state["e_comp"]


class ContentSlots(nn.Module):
    """Event l goes to slot k with weight softmax_k(P e_l + p): r learned prototypes, any L.

    Initialisation: rows of P are random unit vectors times 6 (at 0.5 the slots do not specialise); p is zero.
    """

    def __init__(self, *, dim: int, rank: int) -> None:
        super().__init__()
        self.rank = rank
        self.prototypes = nn.Linear(dim, rank)
        with torch.no_grad():
            self.prototypes.weight.copy_(6 * nn.functional.normalize(torch.randn(rank, dim), dim=1))
            self.prototypes.bias.zero_()

    def state_spec(self, dim: int) -> StateSpec:
        """Sums and how many events are in each; the keys are their means."""
        return TensorSpec("e_auxabsorb", (self.rank, dim)), TensorSpec("counts", (self.rank,))

    def encode(self, rows: Int[Tensor, "B L"], events: Float[Tensor, "B L D"]) -> UserState:
        """Deal the events out to slots."""
        weight = self.prototypes(events).softmax(-1) * (rows != PADDING)[..., None]  # (B, L, R)
        return {"e_auxabsorb": weight.mT @ events, "counts": weight.sum(1)}

    def keys(self, state: UserState) -> Float[Tensor, "B R D"]:
        """c_k = a_k / n_k."""
        return slot_means(state)


class HashSlots(nn.Module):
    """Event l goes, in each family, to the slot that its key (its item, or one of its fields) hashes to.

    A candidate attends to all slots and also reads its own: the row it hashes to, and how often its own key occurs.
    E_auxabsorb holds the sums of embeddings per slot. E_comp holds counts of keys: its r·w cells are a count-min sketch
    (Cormode & Muthukrishnan 2005). Each event adds one to `NUM_HASHES` cells of its key, and a candidate reads their
    minimum, which is never below the true count and above it only if all its cells collide: for n distinct keys in c
    cells with probability about (1 − e^(−4n/c))⁴, 0.2% for 250 in 4,096. Nothing of it is learned, so it works for
    items never seen in training.

    Args:
        item_fields: dense ids of each catalogue row's fields.
        families: (column of `item_fields`, or -1 for the row itself; number of slots) each. A family has the same share
            of the cells as of the slots.
        width: w, cells per slot.
        seed: of the hash functions; a constant, so a rebuilt model hashes alike.
    """

    own_scalars = 3

    def __init__(
        self,
        item_fields: Int[Tensor, "V F"],
        *,
        families: Sequence[tuple[int, int]],
        width: int,
        seed: int = 1,
    ) -> None:
        super().__init__()
        self.families, self.width = tuple(families), width
        self.rank = sum(slots for _, slots in families)
        offset = 0
        for m, (column, slots) in enumerate(families):
            keys = np.arange(len(item_fields)) if column < 0 else item_fields[:, column].numpy()
            hashes = _hash(int(keys.max()) + 1, 1 + NUM_HASHES, seed + m)
            self._keep(f"key_{m}", keys)
            self._keep(f"slot_{m}", hashes[:, 0] % slots + offset)
            self._keep(f"cell_{m}", hashes[:, 1:] % (slots * width) + offset * width)
            offset += slots

    def _keep(self, name: str, values: NDArray[np.integer]) -> None:
        self.register_buffer(name, torch.from_numpy(values.astype(np.int32)), persistent=False)

    def state_spec(self, dim: int) -> StateSpec:
        """Sketch, sums, and how many events are in each slot; the keys of the attention are the means."""
        return (
            TensorSpec("e_comp", (self.rank, self.width)),
            TensorSpec("e_auxabsorb", (self.rank, dim)),
            TensorSpec("counts", (self.rank,)),
        )

    def encode(self, rows: Int[Tensor, "B L"], events: Float[Tensor, "B L D"]) -> UserState:
        """Add every event to its slot and its cells in each family."""
        B, _, D = events.shape
        real = (rows != PADDING).to(events.dtype)  # (B, L)
        sums = events.new_zeros(B, self.rank, D)
        counts = events.new_zeros(B, self.rank)
        cells = events.new_zeros(B, self.rank * self.width)
        for m in range(len(self.families)):
            key = self._of(f"key_{m}", rows)
            slot = self._of(f"slot_{m}", key)  # (B, L)
            sums = sums.scatter_add(1, slot[..., None].expand(-1, -1, D), events)
            counts = counts.scatter_add(1, slot, real)
            known = (real * (key > UNKNOWN))[..., None].expand(-1, -1, NUM_HASHES)  # (B, L, 4)
            cells = cells.scatter_add(1, self._of(f"cell_{m}", key).flatten(1), known.flatten(1))
        return {
            "e_comp": cells.view(B, self.rank, self.width), "e_auxabsorb": sums, "counts": counts,
        }  # fmt: skip

    def keys(self, state: UserState) -> Float[Tensor, "B R D"]:
        """c_k = a_k / n_k."""
        return slot_means(state)

    def own_dim(self, dim: int) -> int:
        """Width of `own`."""
        return len(self.families) * (dim + self.own_scalars)

    def own(
        self, state: UserState, rows: Int[Tensor, "B C"], target: Float[Tensor, "B C D"]
    ) -> Float[Tensor, "B C Do"]:
        """What each candidate's own slots hold: their mean, the count of its key, a soft count, their load. O(D)."""
        parts = []
        norm = target.square().sum(-1) + 1e-2  # (B, C)
        for m in range(len(self.families)):
            key = self._of(f"key_{m}", rows)
            slot = self._of(f"slot_{m}", key)
            total = state["e_auxabsorb"].gather(1, slot[..., None].expand(-1, -1, target.shape[-1]))
            load = state["counts"].gather(1, slot)
            cells = state["e_comp"].flatten(1).gather(1, self._of(f"cell_{m}", key).flatten(1))
            seen = cells.view(*key.shape, NUM_HASHES).amin(-1) * (key > UNKNOWN)
            alike = ((total * target).sum(-1) / norm).clamp(min=0)
            parts.append(total / (load[..., None] + 1))
            parts.append(torch.log1p(torch.stack([seen, alike, load], -1)))
        return torch.cat(parts, -1)

    def _of(self, buffer: str, index: Int[Tensor, "B K"]) -> Int[Tensor, "B K ..."]:
        return self.get_buffer(buffer)[index].long()


def slot_means(state: UserState) -> Float[Tensor, "B R D"]:
    """a_k / n_k, zero for an empty slot: half of the state need not be stored."""
    return state["e_auxabsorb"] / (state["counts"][..., None] + 1e-3)


def _hash(num: int, width: int, seed: int) -> NDArray[np.int64]:
    """Non-negative pseudo-random integers, [num, width]: the finaliser of splitmix64 over a counter."""
    with np.errstate(over="ignore"):
        x = np.arange(num * width, dtype=np.uint64) + np.uint64(seed) * np.uint64(
            0x9E3779B97F4A7C15
        )
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((x ^ (x >> np.uint64(31))) >> np.uint64(1)).astype(np.int64).reshape(num, width)
