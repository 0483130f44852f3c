"""Exact counts: a kernel that is 1 where a key is the same and 0 elsewhere.

    mass_k = Σ_l 1[key_k(t) = key_k(l)] · exp(b_k[age of l])

Keys are the item and each field of its vector. b starts at 0, so that masses start as counts. One more mass is a
learned value of the age of the latest event of the same item.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.blocks.attention.age_bias import AgeBias
from models.blocks.lookup.matching import match_max, match_sum
from models.blocks.reading import Candidates, Read
from models.blocks.take_rows import take_rows
from models.contract.age import NUM_AGES
from models.contract.schema import PADDING
from models.readers.base import AGES, ROWS, HistoryReader, State


class LatestAge(nn.Module):
    """A learned number for each age bucket, which starts to fall from 1 for now to 0; 0 where there is no event."""

    def __init__(self) -> None:
        super().__init__()
        start = 1 - torch.arange(NUM_AGES, dtype=torch.float32) / NUM_AGES
        start[PADDING] = 0
        self.value = nn.Parameter(start[:, None])

    def forward(self, ages: Int[Tensor, "B C"]) -> Float[Tensor, "B C 1"]:
        """The number of each bucket."""
        return take_rows(self.value, ages) * (ages != PADDING)[..., None]


def freshness(ages: Int[Tensor, "B L"]) -> Float[Tensor, "B L"]:
    """A number that is larger for newer events, and 0 at padding."""
    return torch.where(ages == PADDING, 0, NUM_AGES - ages).float()


def age_of(fresh: Float[Tensor, "B C"]) -> Int[Tensor, "B C"]:
    """Inverse of `freshness`."""
    return torch.where(fresh > 0, NUM_AGES - fresh.long(), PADDING)


def count_matches(
    wanted: Int[Tensor, "B C K"],
    there: Int[Tensor, "B L K"],
    worth: Float[Tensor, "B L K"],
    ages: Int[Tensor, "B L"],
    sizes: Sequence[int],
) -> tuple[Float[Tensor, "B C K"], Int[Tensor, "B C"]]:
    """Sum of `worth` over the events that share each key of a candidate, and the age of the latest with the first key.

    Args:
        wanted: keys of candidates.
        there: keys of events, or of items.
        worth: what each event or item adds, for each key.
        ages: age bucket of each event, or of each item's latest event; `PADDING` elsewhere.
        sizes: number of possible keys of each kind.
    """
    counts = [
        match_sum(wanted[..., k], there[..., k], worth[..., k], size)
        for k, size in enumerate(sizes)
    ]
    fresh = match_max(wanted[..., 0], there[..., 0], freshness(ages), sizes[0])
    return torch.stack(counts, -1), age_of(fresh)


class CountReader(HistoryReader):
    """O(L + C) for a request with C candidates.

    Args:
        length: L.
        keys: of every catalogue row, as `match_keys` returns them; the first column is the item.
    """

    keys: Tensor

    def __init__(self, length: int, keys: Int[Tensor, "V K"]) -> None:
        super().__init__(length)
        self.register_buffer("keys", keys, persistent=False)
        self.sizes = (keys.max(0).values + 1).tolist()
        self.masses, self.pooled = keys.shape[1] + 1, 0
        self.ages, self.latest = AgeBias(keys.shape[1]), LatestAge()

    def read(self, state: State, candidates: Candidates) -> Read:
        """Count."""
        rows, ages = state[ROWS].long(), state[AGES].long()
        there, wanted = self.keys[rows], self.keys[candidates.rows]
        counts, age = count_matches(wanted, there, self.ages(ages), ages, self.sizes)
        mass = torch.cat([counts, self.latest(age)], -1)
        return Read(mass, candidates.vectors[:, :, None][:, :, :0])
