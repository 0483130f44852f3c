"""The events of each item of a history brought together: sorted by item, and summed over the runs of equal items."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

NEWER = 0.01
"""What a sum gains from the oldest event to the newest: of equal sums the item seen later is kept, in any runtime."""


def sort_by_item(rows: Int[Tensor, "B L"]) -> tuple[Int[Tensor, "B L"], Int[Tensor, "B L"]]:
    """Rows in ascending order, those of one item by time; and the position that each came from."""
    L = rows.shape[1]
    # Both in one number: no two are equal, so every runtime sorts alike.
    both = rows * L + torch.arange(L, device=rows.device)
    both = both.sort(1).values
    return both // L, both % L


def sum_runs(
    row: Int[Tensor, "B L"], worth: Float[Tensor, "B L W"]
) -> tuple[Float[Tensor, "B L W"], Bool[Tensor, "B L"]]:
    """Sums over each run of equal rows, at all of its places; and which place is the last of its run."""
    differs = row[:, 1:] != row[:, :-1]
    run = F.pad(differs.long().cumsum(1), (1, 0))[..., None].expand(-1, -1, worth.shape[-1])
    total = torch.zeros_like(worth).scatter_add(1, run, worth).gather(1, run)
    return total, F.pad(differs, (0, 1), value=True)


def largest_runs(
    total: Float[Tensor, "B L"],
    position: Int[Tensor, "B L"],
    is_entry: Bool[Tensor, "B L"],
    size: int,
) -> tuple[Int[Tensor, "B T"], Bool[Tensor, "B T"]]:
    """The entries with the largest sums, in descending order. No gradient.

    Args:
        total: sum of each run, at all of its places, above 0.
        position: as `sort_by_item` returns it.
        is_entry: one place of each run that may be kept.
        size: T, number of entries; a shorter history gives as many as it has events.

    Returns:
        Places of the entries, and which of them are entries: histories have fewer.
    """
    L = total.shape[1]
    rank = total.detach() + NEWER / L * position
    best, index = torch.where(is_entry, rank, -1.0).topk(min(size, L))
    return index, best >= 0


def largest_items(
    rows: Int[Tensor, "B L"],
    ages: Int[Tensor, "B L"],
    worth: Float[Tensor, "B L W"],
    size: int,
    *,
    by: int,
    above: int,
) -> tuple[Int[Tensor, "B T"], Float[Tensor, "B T W"], Int[Tensor, "B T"]]:
    """Row of each item that is kept, the sums of `worth` over its events, and the age of its latest event.

    Args:
        rows: catalogue rows of the events.
        ages: their age buckets.
        worth: weights of the events.
        size: T, number of items that are kept.
        by: those with the largest mean of the first `by` sums are kept.
        above: rows up to this are no items.

    Returns:
        The item with the largest sum first; zeros behind the last.
    """
    row, position = sort_by_item(rows)
    worth = worth.gather(1, position[..., None].expand_as(worth))
    sums, is_last = sum_runs(row, worth)
    total = sums[..., :by].mean(-1)
    index, is_kept = largest_runs(total, position, is_last & (row > above), size)
    kept = sums.gather(1, index[..., None].expand(-1, -1, sums.shape[-1]))
    age = ages.gather(1, position.gather(1, index))
    return row.gather(1, index) * is_kept, kept * is_kept[..., None], age * is_kept
