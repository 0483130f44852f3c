"""Small slots of each kind, and histories folded into them."""

from collections.abc import Sequence

import torch
from hypothesis import strategies as st
from torch import Tensor

from models.base import UserState
from models.contract.age import NUM_AGES
from models.contract.schema import FIRST_KNOWN, PADDING
from models.sequence.hash_slots import Family, HashSlots
from models.sequence.slots import ContentSlots, Slots

D = 3
TABLE = torch.randn(10_000, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
TABLE[PADDING] = 0
NUM_ITEMS, NUM_CATEGORIES = 40, 6
FAMILIES = ((-1, 5), (1, 3))
"""With 4 keys per slot there is room for all categories, but not for all items."""
histories = st.lists(st.integers(0, NUM_ITEMS - 1), max_size=30)
aged_histories = st.lists(
    st.tuples(st.integers(0, NUM_ITEMS - 1), st.integers(1, NUM_AGES - 1)), max_size=30
)


def embed(rows: Tensor) -> Tensor:
    return TABLE[rows]


def content_slots(rank: int = 4, is_hard: bool = False) -> ContentSlots:
    torch.manual_seed(0)
    return ContentSlots(dim=D, rank=rank, is_hard=is_hard).double()


def hard_slots() -> ContentSlots:
    return content_slots(is_hard=True)


def fill(slots: Slots, history: list[int], ages: list[int] | None = None) -> UserState:
    """State of one user, whose events are all recent unless `ages` is given."""
    rows = torch.tensor([history], dtype=torch.int64).view(1, -1)
    buckets = (rows != PADDING).long()
    if ages is not None:
        buckets = torch.tensor([ages], dtype=torch.int64).view(1, -1)
    return slots.encode(rows, buckets, embed(rows))


def catalogue(num_items: int = NUM_ITEMS) -> Tensor:
    """Item id and category of each row; the two reserved rows come first."""
    rows = torch.arange(num_items)
    categories = torch.where(rows < FIRST_KNOWN, rows, FIRST_KNOWN + rows % NUM_CATEGORIES)
    return torch.stack([rows, categories], 1)


def hash_slots(
    width: int = 4,
    families: Sequence[tuple[int, int]] = FAMILIES,
    num_items: int = NUM_ITEMS,
    half_life_days: float = 0.0,
    seed: int = 1,
) -> HashSlots:
    """Hash slots with the given families, each a pair of a column and its number of slots."""
    sizes = {-1: num_items, 0: num_items, 1: FIRST_KNOWN + NUM_CATEGORIES}
    return HashSlots(
        catalogue(num_items),
        families=[Family(column, sizes[column], n) for column, n in families],
        width=width,
        half_life_days=half_life_days,
        seed=seed,
    )


def roomy_slots() -> HashSlots:
    """Hash slots whose tables do not overflow, though the items are hashed."""
    return hash_slots(width=30, families=((-1, 1), (1, 3)))


def read_own(slots: Slots, state: UserState, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Vectors and scalars of candidates of one user."""
    vectors, scalars = slots.own(state, rows[None], embed(rows[None]))
    return vectors[0], scalars[0]
