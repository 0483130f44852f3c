"""Which events of a history share a key (the item, or a value of a field) with a candidate."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from models.contract.schema import PADDING, UNKNOWN

NO_KEY = 0
"""Key of padding and of unknown values, which match nothing."""
DENSE = 1 << 17
"""With fewer possible keys, matches are found through a table of all of them: O(L + C) instead of O(L·C)."""


def match_keys(item_fields: Int[Tensor, "V F"], columns: Sequence[int]) -> Int[Tensor, "V K"]:
    """Keys of every catalogue row, one a column; each column has its own numbers from 1.

    Items are told apart by row, since rare items share one id. A prototype, which has no id of its own, stands for many
    new items, so it matches by its other fields only.

    Args:
        item_fields: dense ids of each catalogue row's fields; the first is the item's own id.
        columns: the fields; 0 stands for the item.
    """
    rows = torch.arange(len(item_fields)) * (item_fields[:, 0] != PADDING)
    keys = [item_fields[:, column].long() if column else rows for column in columns]
    return (torch.stack(keys, 1) - UNKNOWN).clamp(min=NO_KEY)


def match_sum(
    wanted: Int[Tensor, "B C"], there: Int[Tensor, "B L"], worth: Float[Tensor, "B L"], size: int
) -> Float[Tensor, "B C"]:
    """Σ_l worth_l · 1[there_l = wanted], 0 for `NO_KEY`.

    Args:
        wanted: keys of candidates.
        there: keys of events.
        worth: what each event adds.
        size: number of possible keys, `NO_KEY` included.
    """
    if size < DENSE:
        table = worth.new_zeros(worth.shape[0], size).scatter_add(1, there, worth)
        total = table.gather(1, wanted)
    else:
        same = wanted[:, :, None] == there[:, None]
        total = (same.to(worth.dtype) @ worth[..., None]).squeeze(-1)
    return total * (wanted != NO_KEY)


def match_max(
    wanted: Int[Tensor, "B C"], there: Int[Tensor, "B L"], value: Float[Tensor, "B L"], size: int
) -> Float[Tensor, "B C"]:
    """The largest value, 0 or more, of an event with the key; 0 if there is none. No gradient. Arguments as above."""
    value = value.detach()
    if size < DENSE:
        table = value.new_zeros(value.shape[0], size)
        found = table.scatter_reduce(1, there, value, "amax").gather(1, wanted)
    else:
        same = wanted[:, :, None] == there[:, None]
        found = torch.where(same, value[:, None], 0.0).amax(-1)
    return found * (wanted != NO_KEY)


def scatter_hash(num: int, seed: int) -> NDArray[np.int64]:
    """Pseudo-random numbers, 0 or more, of 0 … num − 1: the finaliser of splitmix64 over a counter."""
    with np.errstate(over="ignore"):
        x = np.arange(num, dtype=np.uint64) + np.uint64(seed + 1) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((x ^ (x >> np.uint64(31))) >> np.uint64(1)).astype(np.int64)
