"""Catalogue rows to vectors whose fields have length 1, the same table for events and candidates."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from builder.experiments.promotions.task import SPREAD

WIDTHS = (32, 16, 8, 8)
"""Of the item's own id, its type, its category and its maker."""
COLUMNS = (-1, 0, 1, 3)
"""Where in `item_fields` each stands; −1: the catalogue row itself."""
DIM = sum(WIDTHS)
SMALL = 4


class TakeRows(torch.autograd.Function):
    """table[index], whose gradient is one index_add: no sort, and nothing that a CUDA graph cannot hold."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, index: Tensor) -> Tensor:
        """Rows of a table."""
        ctx.save_for_backward(index)
        ctx.shape = table.shape
        return table[index]

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """Sum of the gradients of each row."""
        (index,) = ctx.saved_tensors
        (grad,) = grads
        total = grad.new_zeros(ctx.shape)
        return total.index_add_(0, index.flatten(), grad.reshape(-1, *ctx.shape[1:])), None


def take_rows(
    table: Float[Tensor, "V D"], index: Int[Tensor, "*batch"]
) -> Float[Tensor, "*batch D"]:
    """table[index]."""
    rows: Tensor = TakeRows.apply(table, index)  # type: ignore[no-untyped-call]
    return rows


class Items(nn.Module):
    """ê = [id/|id| ⊕ type/|type| ⊕ category/|category| ⊕ maker/|maker|].

    Fields of length 1 make the scale of the initial embeddings a matter of the learning rate alone, for every model.

    Args:
        item_fields: of every catalogue row; row 0 is padding.
    """

    item_fields: Tensor

    def __init__(self, item_fields: Int[Tensor, "V F"]) -> None:
        super().__init__()
        self.register_buffer("item_fields", item_fields, persistent=False)
        sizes = [
            len(item_fields) if column < 0 else int(item_fields[:, column].max()) + 1
            for column in COLUMNS
        ]
        self.tables = nn.ParameterList(
            nn.Parameter(torch.randn(size, width) * width**-0.5)
            for size, width in zip(sizes, WIDTHS, strict=True)
        )

    def table(self) -> Float[Tensor, "V D"]:
        """ê of every row, then rows of zeros for padding."""
        parts = []
        for column, table in zip(COLUMNS, self.tables, strict=True):
            unit = F.normalize(table, dim=-1, eps=1e-6)
            parts.append(unit if column < 0 else take_rows(unit, self.item_fields[:, column]))
        return F.pad(torch.cat(parts, -1), (0, 0, 0, SPREAD))


class Placement(nn.Module):
    """What a candidate has beside ê: department, popularity, display and mailer, and a bias of its own.

    Args:
        item_fields: of every catalogue row.
        displays: number of display codes.
        mailers: number of mailer codes.
    """

    dim = 4 * SMALL
    item_fields: Tensor

    def __init__(self, item_fields: Int[Tensor, "V F"], displays: int, mailers: int) -> None:
        super().__init__()
        self.register_buffer("item_fields", item_fields, persistent=False)
        sizes = int(item_fields[:, 2].max()) + 1, int(item_fields[:, 4].max()) + 1
        self.tables = nn.ParameterList(
            nn.Parameter(torch.randn(size, SMALL) * 0.5) for size in (*sizes, displays, mailers)
        )
        self.bias = nn.Parameter(torch.zeros(len(item_fields), 1))

    def forward(
        self, items: Int[Tensor, "B C"], display: Int[Tensor, "B C"], mailer: Int[Tensor, "B C"]
    ) -> tuple[Float[Tensor, "B C P"], Float[Tensor, "B C"]]:
        """Vectors and biases of candidates."""
        fields = self.item_fields[items]
        ids = fields[..., 2], fields[..., 4], display, mailer
        parts = [take_rows(table, index) for table, index in zip(self.tables, ids, strict=True)]
        return torch.cat(parts, -1), take_rows(self.bias, items).squeeze(-1)
