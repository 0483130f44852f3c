"""Catalogue rows to vectors whose fields have length 1: inner products are sums of cosines."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.blocks.embedding import embedding
from models.blocks.take_rows import take_rows
from models.contract.schema import UNKNOWN, Field

LookUp = Callable[[Int[Tensor, "*batch"]], Float[Tensor, "*batch D"]]
"""Catalogue rows -> their vectors."""


@dataclass(frozen=True)
class ItemLayout:
    """The item fields of which a vector consists.

    Attributes:
        columns: their columns of the catalogue; the first is 0, the item's own id.
        widths: width of each field's part.
        unmatched: columns of the other fields, by which nothing is matched.
    """

    columns: tuple[int, ...]
    widths: tuple[int, ...]
    unmatched: tuple[int, ...]

    @property
    def dim(self) -> int:
        """D."""
        return sum(self.widths)

    @classmethod
    def of(
        cls, fields: Sequence[Field], unmatched: Sequence[str], item_dim: int, field_dim: int
    ) -> "ItemLayout":
        """All fields but those named in `unmatched`; names that are no item field are ignored."""
        names = [field.name for field in fields]
        left = tuple(f for f, name in enumerate(names) if f and name in unmatched)
        columns = tuple(f for f in range(len(names)) if f not in left)
        widths = (item_dim, *[field_dim] * (len(columns) - 1))
        return cls(columns, widths, left)


class UnitItems(nn.Module):
    """e = [id/|id| ⊕ field/|field| …], the same for events and candidates.

    Fields of length 1 make the scale of the initial embeddings a matter of the learning rate alone. The part of a field
    whose value is padding or unknown is zero, so that it is like nothing, itself included.

    Args:
        item_fields: dense ids of each catalogue row's fields; the first is the item's own id.
        fields: names and sizes of these fields.
        layout: which of them a vector consists of.
        id_dropout: share of the ids whose part is zero in a step of training, for events and candidates alike: the
            model has to learn from the fields, too.
    """

    item_fields: Tensor

    def __init__(
        self,
        item_fields: Int[Tensor, "V F"],
        fields: Sequence[Field],
        layout: ItemLayout,
        id_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.id_dropout = id_dropout
        self.register_buffer("item_fields", item_fields.long())
        self.layout, self.dim = layout, layout.dim
        self.tables = nn.ModuleList(
            embedding(fields[column].size, width, width**-0.5)
            for column, width in zip(layout.columns, layout.widths, strict=True)
        )

    def look_up(self, num: int | torch.SymInt) -> LookUp:
        """A function that embeds catalogue rows. Tables are normalised here, once for all its calls.

        Args:
            num: rows that will be embedded, roughly. For many, the vectors of the whole catalogue are made first.
        """
        units = [self._unit(table.get_parameter("weight")) for table in self.tables]
        if self.training and self.id_dropout:
            ids = units[0]
            units[0] = ids * (torch.rand_like(ids[:, :1]) >= self.id_dropout)
        # In an exported graph these vectors are a constant: the runtime computes them when it loads the graph.
        if torch.compiler.is_exporting() or num > len(self.item_fields):
            every = self._rows(units, self.item_fields)
            return lambda rows: take_rows(every, rows)
        return lambda rows: self._rows(units, self.item_fields[rows])

    def forward(self, rows: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch D"]:
        """Embed catalogue rows."""
        return self.look_up(rows.numel())(rows)

    def _unit(self, table: Float[Tensor, "S W"]) -> Float[Tensor, "S W"]:
        is_known = torch.arange(len(table), device=table.device) > UNKNOWN
        return F.normalize(table, dim=-1, eps=1e-6) * is_known[:, None]

    def _rows(self, units: list[Tensor], ids: Int[Tensor, "*batch F"]) -> Float[Tensor, "*batch D"]:
        columns = zip(units, self.layout.columns, strict=True)
        return torch.cat([take_rows(unit, ids[..., column]) for unit, column in columns], -1)
