"""How many events of a history share an item, or one of its fields, with a candidate: exact, O(F·L) per candidate."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.contract.schema import PADDING, UNKNOWN, Field


class MatchCounts(nn.Module):
    """log(1 + n) for each field but the popularity; the item is told by its catalogue row, since rare ids are shared.

    Args:
        item_fields: dense ids of each catalogue row's fields, the first being the item's own id.
        fields: their names.
    """

    keys: Tensor

    def __init__(self, item_fields: Int[Tensor, "V F"], fields: Sequence[Field]) -> None:
        super().__init__()
        named = [f for f, field in enumerate(fields) if f and field.name != "popularity"]
        rows = torch.arange(len(item_fields))[:, None]
        self.register_buffer(
            "keys", torch.cat([rows, item_fields[:, named]], 1).int(), persistent=False
        )
        self.dim = self.keys.shape[1]

    def forward(
        self, candidates: Int[Tensor, "B C"], history: Int[Tensor, "B L"]
    ) -> Float[Tensor, "B C F"]:
        """Count; neither padding nor an unknown value matches anything."""
        counts = []
        for keys in self.keys.unbind(1):
            wanted, there = keys[candidates], keys[history]
            same = wanted[:, :, None] == there[:, None] * (history != PADDING)[:, None]  # (B, C, L)
            counts.append(same.sum(-1) * (wanted > UNKNOWN))
        return torch.log1p(torch.stack(counts, -1).float())
