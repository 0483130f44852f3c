"""Counts of what a candidate shares with a history: a kernel that is 1 where a key is the same and 0 elsewhere.

    mass_f = Σ_l 1[key_f(t) = key_f(l)] · exp(b_f[age of l])

Keys are the catalogue row, type, category and maker; b starts at 0, so masses start as counts. A sketch counts hashed
keys (count-min, Cormode & Muthukrishnan 2005): the least of two tables' cells, which is never below the count; it
stores cells instead of keys, and a new event adds to them.
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from builder.experiments.promotions.blocks.base import (
    AgeBias,
    Block,
    Candidates,
    History,
    Read,
    State,
)
from builder.experiments.promotions.embeddings import COLUMNS

CELLS = (512, 256, 256, 256)
"""Cells of each of a sketch's tables: two for each of four keys. 2,560 in all."""
ABSENT = 1
"""Code of a missing field in `item_fields`; it matches no key."""


def keys_of(item_fields: Int[Tensor, "V F"]) -> Int[Tensor, "V K"]:
    """The row, type, category and maker of every catalogue row; −1 where a field is absent, and at padding."""
    rows = torch.arange(len(item_fields), device=item_fields.device)
    columns = [rows if column < 0 else item_fields[:, column] for column in COLUMNS]
    keys = torch.stack(columns, 1)
    keys[:, 1:] = torch.where(keys[:, 1:] <= ABSENT, -1, keys[:, 1:])
    keys[0] = -1
    return keys


class Counts(Block):
    """Exact counts. The state is the history's rows and ages."""

    heads = 0
    keys: Tensor

    def __init__(self, item_fields: Int[Tensor, "V F"]) -> None:
        super().__init__()
        self.register_buffer("keys", keys_of(item_fields), persistent=False)
        self.ages = AgeBias(len(COLUMNS))

    def encode(self, history: History) -> State:
        """Keys of events, and the weight of each."""
        return {"keys": self.keys[history.rows], "worth": self.ages(history.ages)}

    def read(self, state: State, candidates: Candidates) -> Read:
        """Count."""
        wanted = self.keys[candidates.rows]  # (B, C, K)
        masses = [
            match_mass(wanted[..., k], state["keys"][..., k], state["worth"][..., k])
            for k in range(wanted.shape[-1])
        ]
        mass = torch.stack(masses, -1)
        return Read(mass, mass[..., :0])


class Sketch(Counts):
    """Counts through hashed keys: the least of two cells."""

    def __init__(self, item_fields: Int[Tensor, "V F"]) -> None:
        super().__init__(item_fields)
        keys = self.keys
        hashed = []
        for k, cells in enumerate(CELLS):
            size = int(keys[:, k].max()) + 1
            for table in range(2):
                cell = torch.from_numpy(scatter_hash(size, 2 * k + table) % cells).to(keys.device)
                hashed.append(torch.where(keys[:, k] < 0, -1, cell[keys[:, k].clamp(min=0)]))
        self.keys = torch.stack(hashed, 1)

    def encode(self, history: History) -> State:
        """Cells of events, and the weight of each; `read` computes what tables of cells would hold."""
        worth = self.ages(history.ages).repeat_interleave(2, -1)
        return {"keys": self.keys[history.rows], "worth": worth}

    def read(self, state: State, candidates: Candidates) -> Read:
        """The smaller of both estimates."""
        both = super().read(state, candidates).mass
        mass = both.view(*both.shape[:-1], -1, 2).amin(-1)
        return Read(mass, mass[..., :0])

    def state_bytes(self, length: int) -> int:
        """One float16 a cell, since worths are not whole numbers."""
        return 2 * 2 * sum(CELLS)


def match_mass(
    wanted: Int[Tensor, "B C"], there: Int[Tensor, "B L"], worth: Float[Tensor, "B L"]
) -> Float[Tensor, "B C"]:
    """Σ_l worth_l · 1[there_l = wanted], 0 for a key of −1."""
    same = wanted[:, :, None] == there[:, None]
    mass = (same.to(worth.dtype) @ worth[..., None]).squeeze(-1)
    return mass * (wanted >= 0)


def scatter_hash(size: int, seed: int) -> np.ndarray:
    """Pseudo-random numbers of 0 … size − 1: the finaliser of splitmix64 over a counter."""
    with np.errstate(over="ignore"):
        x = np.arange(size, dtype=np.uint64) + np.uint64(seed + 1) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((x ^ (x >> np.uint64(31))) >> np.uint64(1)).astype(np.int64)
