"""DIN's attention to every event (1706.06978). O(L·D·h) per candidate."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.blocks.attention.target_score import TargetScore
from models.blocks.reading import Candidates, Read
from models.blocks.take_rows import take_rows
from models.contract.age import NUM_AGES
from models.contract.schema import PADDING
from models.readers.base import HistoryReader, State

AGE_DIM = 8
"""Width of an age's embedding, which is a further input of the score."""


class AgedScore(nn.Module):
    """`TargetScore` of events or items, whose age is a further input.

    Args:
        widths: width of each field's part of a vector.
        hidden: h.
        heads: H.
        slope: slope of φ below zero.
    """

    def __init__(self, widths: Sequence[int], *, hidden: int, heads: int, slope: float) -> None:
        super().__init__()
        self.ages = nn.Parameter(torch.randn(NUM_AGES, AGE_DIM) * 0.5)
        self.score = TargetScore(widths, hidden=hidden, heads=heads, slope=slope, side=AGE_DIM)

    def forward(
        self,
        target: Float[Tensor, "B C D"],
        vectors: Float[Tensor, "B K D"],
        ages: Int[Tensor, "B K"],
        worth: Float[Tensor, "B K H"] | None = None,
    ) -> Read:
        """Attend; padding comes first.

        Args:
            target: e_t.
            vectors: keys and values.
            ages: their age buckets; `PADDING` where there is none.
            worth: factor of each key's weight in each head.
        """
        is_real = ages != PADDING
        read: Read = self.score(
            target,
            vectors,
            vectors,
            is_real.to(vectors.dtype),
            side=take_rows(self.ages, ages),
            padding=(~is_real).sum(1),
            worth=worth,
        )
        return read


class PhiReader(HistoryReader):
    """`AgedScore` over all events.

    Args:
        length: L.
        widths: width of each field's part of a vector.
        hidden: h.
        heads: H.
        slope: slope of φ below zero.
    """

    def __init__(
        self, length: int, widths: Sequence[int], *, hidden: int, heads: int, slope: float
    ) -> None:
        super().__init__(length)
        self.masses = self.pooled = heads
        self.aged = AgedScore(widths, hidden=hidden, heads=heads, slope=slope)

    def read(self, state: State, candidates: Candidates) -> Read:
        """Attend."""
        events = state.events
        read: Read = self.aged(candidates.vectors, events.vectors, events.ages)
        return read
