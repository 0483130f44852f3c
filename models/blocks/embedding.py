"""Embeddings: of catalogue rows, by their fields, and of profile or context fields."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.blocks.take_rows import take_rows
from models.contract.schema import PADDING, Field


def embedding(num: int, dim: int, std: float) -> nn.Embedding:
    """An embedding table with rows from Normal(0, std); the padding row is zero and is not trained."""
    table = nn.Embedding(num, dim, padding_idx=PADDING)
    nn.init.normal_(table.weight, std=std)
    with torch.no_grad():
        table.weight[PADDING].zero_()
    return table


class ItemEmbedding(nn.Module):
    """Catalogue rows -> [id ⊕ field ⊕ field …], the same table for events and for candidates (DIN, arXiv:1706.06978).

    A padding row gives a zero vector, so that sums over a history need no mask.

    Args:
        item_fields: dense ids of each catalogue row's fields; the first is the item's own id.
        fields: names and sizes of these fields.
        item_dim: width of the id's embedding.
        field_dim: width of each other field's embedding.
        std: standard deviation of the initial rows. 0.2 is used: with 0.05 item identity is learned too slowly.
    """

    item_fields: Tensor

    def __init__(
        self,
        item_fields: Int[Tensor, "V F"],
        fields: Sequence[Field],
        *,
        item_dim: int,
        field_dim: int,
        std: float,
    ) -> None:
        super().__init__()
        self.register_buffer("item_fields", item_fields.long())
        widths = [item_dim] + [field_dim] * (len(fields) - 1)
        self.tables = nn.ModuleList(
            embedding(field.size, width, std) for field, width in zip(fields, widths, strict=True)
        )
        self.dim = sum(widths)

    def forward(self, rows: Int[Tensor, "B K"]) -> Float[Tensor, "B K D"]:
        """Embed catalogue rows."""
        if torch.compiler.is_exporting():
            # This subgraph has constant inputs, so the runtime computes the table once, when it loads the graph.
            return F.embedding(rows, self._look_up(self.item_fields))
        return self._look_up(self.item_fields[rows])

    def _look_up(self, ids: Int[Tensor, "*batch F"]) -> Float[Tensor, "*batch D"]:
        return torch.cat([table(ids[..., f]) for f, table in enumerate(self.tables)], dim=-1)


class FieldEmbedding(nn.Module):
    """Fields of a profile, a context or a candidate -> one concatenated vector, of width 0 if there are no fields."""

    def __init__(self, fields: Sequence[Field], *, dim: int, std: float) -> None:
        super().__init__()
        self.tables = nn.ModuleList(embedding(field.size, dim, std) for field in fields)
        self.dim = dim * len(fields)

    def forward(self, ids: Int[Tensor, "*batch F"]) -> Float[Tensor, "*batch D"]:
        """Embed one id per field."""
        if not self.tables:
            return ids.new_zeros((*ids.shape[:-1], 0), dtype=torch.float32)
        tables = [table.get_parameter("weight") for table in self.tables]
        return torch.cat([take_rows(table, ids[..., f]) for f, table in enumerate(tables)], -1)
