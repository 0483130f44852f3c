"""What passes between a model, its frame and its readers of a history (`models/readers/`)."""

from dataclasses import dataclass
from functools import cached_property

from jaxtyping import Float, Int
from torch import Tensor

from models.blocks.unit_items import LookUp


class Events:
    """A history. Its vectors are looked up when they are first asked for.

    Args:
        rows: catalogue rows; `PADDING` where there is no event.
        ages: age buckets; `PADDING` where there is no event.
        look_up: vectors of catalogue rows.
    """

    def __init__(self, rows: Int[Tensor, "B L"], ages: Int[Tensor, "B L"], look_up: LookUp) -> None:
        self.rows, self.ages, self.look_up = rows, ages, look_up

    @cached_property
    def vectors(self) -> Float[Tensor, "B L D"]:
        """e_l, zero at padding."""
        return self.look_up(self.rows)


@dataclass(frozen=True)
class Candidates:
    """Catalogue rows of candidates and their vectors e_t."""

    rows: Int[Tensor, "B C"]
    vectors: Float[Tensor, "B C D"]


@dataclass(frozen=True)
class Read:
    """What a history says of each candidate.

    Attributes:
        mass: how much of the history matches, in M ways.
        pooled: what matches: G vectors in the space of e_l.
    """

    mass: Float[Tensor, "B C M"]
    pooled: Float[Tensor, "B C G D"]
