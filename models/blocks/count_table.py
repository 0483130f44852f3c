"""How often each key occurs in a history, in tables of a fixed size that are rows of a state."""

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor


def count_keys(
    key: Int[Tensor, "B N"],
    weight: Float[Tensor, "B N"],
    row: Int[Tensor, "B N"],
    *,
    rows: int,
    width: int,
) -> tuple[Float[Tensor, "B R W"], Int[Tensor, "B R W"]]:
    """Sum the weights of equal keys, and keep the `width` largest sums of each row; of equal ones the smaller key's.

    In O(N log N), whatever the number of keys there might be. No gradient.

    Args:
        key: not negative.
        weight: not negative; with 0 a key leaves no trace.
        row: below `rows`, the same wherever a key is the same.
        rows: R.
        width: W.

    Returns:
        Sums, falling along a row; and their keys, 0 where the sum is 0.
    """  # fmt: skip
    key, weight, row = _merge(key, weight.detach(), row)
    row = torch.where(weight > 0, row, rows)  # what leaves no trace goes to a row of its own
    # By row, and within it by falling weight: in one number, whose fraction is below 1 and has 40 bits in float64.
    weight64 = weight.double()
    order = _argsort(row - weight64 / (weight64.sum(1, keepdim=True) + 1))
    key, weight, row = (values.gather(1, order) for values in (key, weight, row))
    per_row = row.new_zeros(row.shape[0], rows + 1)
    per_row = per_row.scatter_add(1, row, torch.ones_like(row))
    first = per_row.cumsum(1) - per_row
    place = torch.arange(row.shape[1], device=row.device) - first.gather(1, row)
    beyond = rows * width
    at = torch.where((place < width) & (row < rows), row * width + place, beyond)
    return _place(weight, at, rows, width), _place(key, at, rows, width)


def _merge(
    key: Int[Tensor, "B N"], weight: Float[Tensor, "B N"], row: Int[Tensor, "B N"]
) -> tuple[Int[Tensor, "B N"], Float[Tensor, "B N"], Int[Tensor, "B N"]]:
    """Each distinct key once, rising, with the sum of its weights; what is left over has the weight 0."""
    order = _argsort(key)
    key, weight, row = (values.gather(1, order) for values in (key, weight, row))
    is_new = key[:, 1:] != key[:, :-1]
    run = torch.cat([key.new_zeros(key.shape[0], 1), is_new.long()], 1).cumsum(1)
    run = run[:, : key.shape[1]]  # an empty history has no first event either
    total = torch.zeros_like(weight).scatter_add(1, run, weight)
    # All events of a run write the same number.
    key, row = (torch.zeros_like(key).scatter(1, run, values) for values in (key, row))
    return key, total, row


def _argsort(values: Shaped[Tensor, "B N"]) -> Int[Tensor, "B N"]:
    """Rising, equal ones in their order."""
    if torch.compiler.is_exporting():  # ONNX sorts by TopK, which keeps that order too
        return values.topk(values.shape[1], largest=False, sorted=True).indices
    return values.argsort(stable=True, dim=1)


def _place(
    values: Shaped[Tensor, "B N"], at: Int[Tensor, "B N"], rows: int, width: int
) -> Shaped[Tensor, "B R W"]:
    """values[b, n] at cell at[b, n] of a table of zeros; what is beyond its last cell is dropped."""
    cells = values.new_zeros(values.shape[0], rows * width + 1).scatter(1, at, values)
    return cells[:, :-1].view(-1, rows, width)
