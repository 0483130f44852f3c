"""How item slots are scored: by the kernel, or by DIN's φ.

Of item i, n_hi is the sum of its events' age weights in head h, and a_i the age of its latest event.

    kernel:  w_h(t, i) = n_hi · exp(k_h(t, i))
    φ:       w_h(t, i) = n_hi · φ_h(t, i, a_i)

Both are what attention to all events gives whose weight is a function of the item times one of the event's age. For the
kernel that is `KernelReader`. `PhiReader` has each event's age within φ, so that item slots differ from it in that.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.blocks.attention.age_bias import NEVER
from models.blocks.attention.kernel import FieldKernel
from models.blocks.reading import Read
from models.contract.schema import PADDING
from models.readers.phi import AgedScore
from models.readers.slots import TINY


@dataclass(frozen=True)
class Items:
    """What a state holds of a user's items, real ones first.

    Attributes:
        rows: catalogue rows; `PADDING` behind the last.
        vectors: e_i.
        sums: n_hi.
        ages: age bucket of each item's latest event.
    """

    rows: Int[Tensor, "B r"]
    vectors: Float[Tensor, "B r D"]
    sums: Float[Tensor, "B r H"]
    ages: Int[Tensor, "B r"]


class ItemScore(nn.Module, ABC):
    """Attention of candidates to items.

    Attributes:
        heads: H.
    """

    heads: int

    @abstractmethod
    def forward(self, target: Float[Tensor, "B C D"], items: Items) -> Read:
        """Masses and pooled vectors of each head."""


class KernelOfItems(ItemScore):
    """`FieldKernel`. O(r·D·H) per candidate.

    Args:
        widths: width of each field's part of a vector.
        heads: H.
    """

    def __init__(self, widths: Sequence[int], heads: int) -> None:
        super().__init__()
        self.heads, self.kernel = heads, FieldKernel(widths, heads)

    def forward(self, target: Float[Tensor, "B C D"], items: Items) -> Read:
        """Attend; ages are in the sums only."""
        shift = items.sums.clamp(min=TINY).log() + NEVER * (items.rows == PADDING)[..., None]
        read: Read = self.kernel(target, items.vectors, shift)
        return read


class PhiOfItems(ItemScore):
    """`AgedScore`, with the age of each item's latest event. O(r·D·h) per candidate.

    Args:
        widths: width of each field's part of a vector.
        hidden: h.
        heads: H.
        slope: slope of φ below zero.
    """

    def __init__(self, widths: Sequence[int], *, hidden: int, heads: int, slope: float) -> None:
        super().__init__()
        self.heads = heads
        self.aged = AgedScore(widths, hidden=hidden, heads=heads, slope=slope)

    def forward(self, target: Float[Tensor, "B C D"], items: Items) -> Read:
        """Attend."""
        vectors, ages, worth = items.vectors, items.ages, items.sums
        if not torch.compiler.is_exporting():
            # A CPU skips padding at the start.
            vectors, ages, worth = (part.flip(1) for part in (vectors, ages, worth))
        read: Read = self.aged(target, vectors, ages, worth)
        return read
