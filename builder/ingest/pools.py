"""Pools: the candidates that were there to choose from, where a log knows them. Needs numpy only."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

NO_POOL = -1
"""Pool of an event that belongs to no slate: it is history only."""


@dataclass(frozen=True, eq=False)
class Pools:
    """S pools of P candidates in all; pool s holds candidates [first[s], first[s + 1]).

    Attributes:
        first: int64 [S + 1].
        item: catalogue rows, rising within a pool, each once; int32 [P].
        fields: dense ids of the candidate fields, of the smallest unsigned type that holds them; [P, Fs].
    """

    first: NDArray[np.int64]
    item: NDArray[np.int32]
    fields: NDArray[np.unsignedinteger]

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Number of candidates of each pool, [S]."""
        return np.diff(self.first)

    def places(self, pool: NDArray[np.integer], item: NDArray[np.integer]) -> NDArray[np.int32]:
        """Place of each item in its pool, -1 where the pool lacks it or is `NO_POOL`; [n].

        Args:
            pool: index of a pool, or `NO_POOL`, [n].
            item: catalogue row, [n].
        """
        place = np.full(len(pool), -1, np.int32)
        event = np.flatnonzero(np.asarray(pool) != NO_POOL)
        if not len(event) or not len(self.item):
            return place
        rows = int(max(self.item.max(), item.max())) + 1
        keys = np.repeat(np.arange(len(self.sizes)), self.sizes) * rows + self.item
        own_keys = pool[event].astype(np.int64) * rows + item[event]
        at = np.minimum(np.searchsorted(keys, own_keys), len(keys) - 1)
        is_there = keys[at] == own_keys
        place[event[is_there]] = (at - self.first[pool[event]])[is_there]
        return place

    def save(self, folder: Path) -> None:
        """Write one `.npy` file per array to an existing folder."""
        for name in ("first", "item", "fields"):
            np.save(folder / f"pools_{name}.npy", getattr(self, name))

    @classmethod
    def load(cls, folder: Path) -> "Pools":
        """Inverse of `save`. Arrays are mapped into memory, not read."""
        names = ("first", "item", "fields")
        return cls(*(np.load(folder / f"pools_{name}.npy", mmap_mode="r") for name in names))


def smallest_unsigned(values: NDArray[np.integer], size: int) -> NDArray[np.unsignedinteger]:
    """Ids below `size` in the smallest unsigned type that holds them."""
    return values.astype(np.min_scalar_type(max(size - 1, 0)))
