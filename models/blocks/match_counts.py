"""Exact number of events in a history that share the item, or one of its fields, with a candidate."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.contract.schema import PADDING, UNKNOWN, Field


class MatchCounts(nn.Module):
    """log(1 + n) for the item and each of its fields but the popularity. O(F·L) per candidate.

    Items are compared by catalogue row, since rare items share one id.

    Args:
        item_fields: dense ids of each catalogue row's fields; the first is the item's own id.
        fields: names of these fields.
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
        """Count the matches. Padding and unknown values match nothing."""
        counts = []
        for keys in self.keys.unbind(1):
            wanted, seen = keys[candidates], keys[history]
            same = wanted[:, :, None] == seen[:, None] * (history != PADDING)[:, None]  # (B, C, L)
            counts.append(same.sum(-1) * (wanted > UNKNOWN))
        return torch.log1p(torch.stack(counts, -1).float())
