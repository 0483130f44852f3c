"""Kernel attention to every event. O(L·D·H) per candidate."""

from collections.abc import Sequence

from models.blocks.attention.age_bias import AgeBias
from models.blocks.attention.kernel import FieldKernel
from models.blocks.reading import Candidates, Read
from models.readers.base import HistoryReader, State


class KernelReader(HistoryReader):
    """`FieldKernel` over all events, with their ages as a bias of each head.

    Args:
        length: L.
        widths: width of each field's part of a vector.
        heads: H.
    """

    def __init__(self, length: int, widths: Sequence[int], heads: int) -> None:
        super().__init__(length)
        self.masses = self.pooled = heads
        self.kernel, self.ages = FieldKernel(widths, heads), AgeBias(heads)

    def read(self, state: State, candidates: Candidates) -> Read:
        """Attend."""
        events = state.events
        read: Read = self.kernel(candidates.vectors, events.vectors, self.ages.log(events.ages))
        return read
