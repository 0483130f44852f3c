"""Rows of a table by index, with a gradient that neither sorts nor waits for the host."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from models.contract.schema import PADDING

SPREAD = 512
"""Rows to which gradients of padding are spread before they are dropped: adding all to one row would take turns."""
SMALL = 64
"""Tables of at most so many rows get their gradient on a GPU by one product, not by thousands of additions per row."""


class _TakeRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.shape = table.shape
        return table[index]

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (index,) = ctx.saved_tensors
        rows = len(index.flatten())
        size, *rest = ctx.shape
        grad = grads[0].reshape(rows, *rest)
        index = index.flatten()
        if grad.is_cuda and size <= SMALL:
            hot = (index == torch.arange(size, device=index.device)[:, None]).to(grad.dtype)
            hot = hot * (torch.arange(size, device=index.device) != PADDING)[:, None]
            return (hot @ grad.flatten(1)).view(ctx.shape), None
        spread = size + torch.arange(rows, device=index.device) % SPREAD
        index = torch.where(index == PADDING, spread, index)
        total = grad.new_zeros(size + SPREAD, *rest)
        return total.index_add_(0, index, grad)[:size], None


def take_rows(
    table: Float[Tensor, "V D"], index: Int[Tensor, "*batch"]
) -> Float[Tensor, "*batch D"]:
    """table[index]. The row `PADDING` gets no gradient."""
    if torch.compiler.is_exporting():
        return F.embedding(index, table)
    rows: Tensor = _TakeRows.apply(table, index)  # type: ignore[no-untyped-call]
    return rows
