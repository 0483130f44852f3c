"""How often each key occurs in a history, as tables of a fixed size that fit into the rows of a state."""

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
    """Sum the weights of equal keys, and keep the `width` largest sums of each row. No gradient.

    Of equal sums, the one with the smaller key is kept. O(N log N), however many different keys are possible.

    Args:
        key: keys, 0 or more.
        weight: weights, 0 or more; a key of weight 0 is ignored.
        row: row of each key, below `rows`; equal keys have equal rows.
        rows: R, number of tables.
        width: W, keys that each table holds.

    Returns:
        The sums, in descending order along a row, and their keys; both are 0 in empty cells.
    """
    key, weight, row = _merge(key, weight.detach(), row)
    row = torch.where(weight > 0, row, rows)  # ignored keys go to an extra row
    # Sort by row, then by descending weight, as one number: its fraction is below 1 and has 40 bits in float64.
    weight64 = weight.double()
    order = _argsort(row - weight64 / (weight64.sum(1, keepdim=True) + 1))
    key, weight, row = (values.gather(1, order) for values in (key, weight, row))
    per_row = row.new_zeros(row.shape[0], rows + 1)
    per_row = per_row.scatter_add(1, row, torch.ones_like(row))
    first = per_row.cumsum(1) - per_row
    rank = torch.arange(row.shape[1], device=row.device) - first.gather(1, row)
    dropped = rows * width
    cell = torch.where((rank < width) & (row < rows), row * width + rank, dropped)
    return _write_cells(weight, cell, rows, width), _write_cells(key, cell, rows, width)


def _merge(
    key: Int[Tensor, "B N"], weight: Float[Tensor, "B N"], row: Int[Tensor, "B N"]
) -> tuple[Int[Tensor, "B N"], Float[Tensor, "B N"], Int[Tensor, "B N"]]:
    """Each distinct key once, in ascending order, with the sum of its weights; entries left over have weight 0."""
    order = _argsort(key)
    key, weight, row = (values.gather(1, order) for values in (key, weight, row))
    is_new = key[:, 1:] != key[:, :-1]
    run = torch.cat([key.new_zeros(key.shape[0], 1), is_new.long()], 1).cumsum(1)
    run = run[:, : key.shape[1]]  # an empty history has no first run
    total = torch.zeros_like(weight).scatter_add(1, run, weight)
    # All entries of a run write the same number, so their order does not matter.
    key, row = (torch.zeros_like(key).scatter(1, run, values) for values in (key, row))
    return key, total, row


def _argsort(values: Shaped[Tensor, "B N"]) -> Int[Tensor, "B N"]:
    """Ascending and stable."""
    if (
        torch.compiler.is_exporting()
    ):  # ONNX has no stable sort, but its TopK keeps the order of equal values
        return values.topk(values.shape[1], largest=False, sorted=True).indices
    return values.argsort(stable=True, dim=1)


def _write_cells(
    values: Shaped[Tensor, "B N"], cell: Int[Tensor, "B N"], rows: int, width: int
) -> Shaped[Tensor, "B R W"]:
    """A table of zeros with values[b, n] in its cell cell[b, n]; values of the cell R·W are dropped."""
    cells = values.new_zeros(values.shape[0], rows * width + 1).scatter(1, cell, values)
    return cells[:, :-1].view(-1, rows, width)
