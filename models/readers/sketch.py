"""Counts of a fixed size: sums of age weights in cells that keys hash to (count-min; Cormode & Muthukrishnan 2005).

A key's estimate is the least of its two cells, which is never below the count. A field with few values has one cell for
each, and its counts are exact. Additive: a new event adds to its cells.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from models.base import UserState
from models.blocks.attention.age_bias import AgeBias
from models.blocks.lookup.matching import NO_KEY, scatter_hash
from models.blocks.reading import Candidates, Events, Read
from models.contract.state_spec import StateSpec, TensorSpec
from models.readers.base import Reader, State

TABLES = 2
"""Tables of a hashed key."""


class SketchReader(Reader):
    """Masses as those of `CountReader`, without the age of the latest event.

    Args:
        keys: of every catalogue row, as `match_keys` returns them.
        cells: cells of each table; a key with at most twice as many values has a cell for each value instead.
    """

    places: Tensor

    def __init__(self, keys: Int[Tensor, "V K"], cells: int) -> None:
        super().__init__()
        places, first, self.columns = [], 0, []
        for k, column in enumerate(keys.unbind(1)):
            size = int(column.max())
            tables = 1 if size <= TABLES * cells else TABLES
            for table in range(tables):
                hashed = torch.from_numpy(scatter_hash(size + 1, TABLES * k + table)) % cells
                place = hashed[column] if tables > 1 else (column - 1).clamp(min=0)
                places.append(torch.where(column == NO_KEY, -1, first + place))
                first += cells if tables > 1 else max(size, 1)
                self.columns.append(k)
        self.cells = first
        # Events without the key add to one more cell, which is dropped.
        every = torch.stack(places, 1)
        every = torch.where(every < 0, self.cells, every)
        self.register_buffer("places", every, persistent=False)  # (V, T)
        self.masses, self.pooled = keys.shape[1], 0
        self.ages = AgeBias(keys.shape[1])

    def state_spec(self) -> StateSpec:
        """All cells."""
        return (TensorSpec("sketch", (self.cells,), folds="sum"),)

    def encode(self, events: Events) -> UserState:
        """Add each event to its cells."""
        worth = self.ages(events.ages)  # (B, L, K)
        by_table = torch.stack([worth[..., k] for k in self.columns], -1)
        cells = worth.new_zeros(worth.shape[0], self.cells + 1)
        place = self.places[events.rows]
        cells = cells.scatter_add(1, place.flatten(1), by_table.flatten(1))
        return {"sketch": cells[:, :-1]}

    def read(self, state: State, candidates: Candidates) -> Read:
        """The least cell of each key."""
        cells = torch.nn.functional.pad(state["sketch"], (0, 1))
        place = self.places[candidates.rows]  # (B, C, T)
        found = cells.gather(1, place.flatten(1)).view(place.shape)
        mass = torch.stack([self._least(found, k) for k in range(self.masses)], -1)
        return Read(mass, candidates.vectors[:, :, None][:, :, :0])

    def _least(self, found: Float[Tensor, "B C T"], key: int) -> Float[Tensor, "B C"]:
        own = [found[..., t] for t, k in enumerate(self.columns) if k == key]
        return own[0] if len(own) == 1 else torch.minimum(own[0], own[1])
