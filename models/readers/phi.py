"""DIN's attention to every event (1706.06978). O(L·D·h) per candidate."""

from collections.abc import Sequence

import torch
from torch import nn

from models.blocks.attention.target_score import TargetScore
from models.blocks.reading import Candidates, Read
from models.blocks.take_rows import take_rows
from models.contract.age import NUM_AGES
from models.contract.schema import PADDING
from models.readers.base import HistoryReader, State

AGE_DIM = 8
"""Width of an age's embedding, which is a further input of the score."""


class PhiReader(HistoryReader):
    """`TargetScore` over all events and their ages.

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
        self.ages = nn.Parameter(torch.randn(NUM_AGES, AGE_DIM) * 0.5)
        self.score = TargetScore(widths, hidden=hidden, heads=heads, slope=slope, side=AGE_DIM)

    def read(self, state: State, candidates: Candidates) -> Read:
        """Attend."""
        events = state.events
        is_real = events.ages != PADDING
        real = is_real.to(events.vectors.dtype)
        read: Read = self.score(
            candidates.vectors,
            events.vectors,
            events.vectors,
            real,
            side=take_rows(self.ages, events.ages),
            padding=(~is_real).sum(1),
        )
        return read
