"""The items of a history, each once: exact counts by item in a table that needs 6 to 8 bytes an item.

    entry = (catalogue row and age bucket of the latest event, Σ_l exp(b[age of l]) over the item's events)

As long as a history has at most T different items, masses are those of exact counts. Of more, those with the largest
sums are kept, so that no count is too high. Additive up to the age weights: a new event adds 1 to its item's entry.
"""

import torch

from models.base import UserState
from models.blocks.attention.age_bias import AgeBias
from models.blocks.lookup.item_runs import largest_items
from models.blocks.lookup.matching import match_sum
from models.blocks.reading import Candidates, Events, Read
from models.contract.age import NUM_AGES
from models.contract.schema import UNKNOWN
from models.contract.state_spec import StateSpec, TensorSpec
from models.readers.base import Reader, State
from models.readers.counts import LatestAge


class ItemTableReader(Reader):
    """T entries. O(T + C) for a request with C candidates.

    Args:
        length: L.
        size: T, at most L.
        num_items: rows of the catalogue.
        first_prototype: row from which on rows are no items but prototypes: several items have one, so none matches.
            None: there are no prototypes.
    """

    def __init__(
        self, length: int, size: int, num_items: int, first_prototype: int | None = None
    ) -> None:
        super().__init__()
        self.size, self.num_items = min(size, length), num_items
        self.first_prototype = num_items if first_prototype is None else first_prototype
        self.masses, self.pooled = 2, 0
        self.ages, self.latest = AgeBias(1), LatestAge()

    def state_spec(self) -> StateSpec:
        """Row · 50 + age bucket, and the sum, of each entry, the largest sum first; zeros behind the last entry."""
        return (
            TensorSpec("table_items", (self.size,), "int32", filled="first", ids="rows and ages"),
            TensorSpec("table_sums", (self.size,), filled="first"),
        )

    def encode(self, events: Events) -> UserState:
        """Sum the weights of equal items, and keep the T largest sums."""
        worth, rows = self.ages(events.ages), events.rows
        if self.first_prototype < self.num_items:
            rows = rows * (rows < self.first_prototype)
        row, sums, age = largest_items(rows, events.ages, worth, self.size, by=1, above=UNKNOWN)
        return {"table_items": (row * NUM_AGES + age).int(), "table_sums": sums.squeeze(-1)}

    def read(self, state: State, candidates: Candidates) -> Read:
        """Look the candidates up."""
        items = state["table_items"].long()
        row, age = items // NUM_AGES, items % NUM_AGES
        place = torch.arange(1, row.shape[1] + 1, device=row.device).expand_as(row)
        # Entries are found by their places, which float32 holds exactly; 0 is none.
        at = match_sum(candidates.rows, row, place.float(), self.num_items).long()
        at = at * (candidates.rows > UNKNOWN)
        sums = torch.nn.functional.pad(state["table_sums"], (1, 0)).gather(1, at)
        latest = torch.nn.functional.pad(age, (1, 0)).gather(1, at)
        mass = torch.cat([sums[..., None], self.latest(latest)], -1)
        return Read(mass, candidates.vectors[:, :, None][:, :, :0])
