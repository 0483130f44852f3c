"""Groups of targets: by how long ago the history last shows the item, and by the length of the history."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from models.contract.age import age_buckets
from models.contract.schema import PADDING

EDGES_DAYS = (1, 8, 32, 91)
"""Just below the ends of age buckets, so that no bucket belongs to two groups."""
HISTORY_EDGES = (0, 100, 200, 400, 800, 1600)
AGES = ("never", "under 1 day", "1 to 8 days", "8 to 32 days", "32 to 91 days", "over 91 days")


def age_groups(age: NDArray[np.int64]) -> NDArray[np.int64]:
    """Index into `AGES` of each age bucket; `PADDING` is "never"."""
    edges = age_buckets(np.array(EDGES_DAYS) * 86_400) + 1
    groups = np.searchsorted(edges, age, side="right") + 1
    return np.where(age == PADDING, 0, groups)


def history_groups(length: NDArray[np.integer]) -> tuple[list[str], NDArray[np.int64]]:
    """Names of groups of numbers of events, "low-high"; and the group of each number."""
    edges = [edge for edge in HISTORY_EDGES if edge < length.max(initial=0)] or [0]
    names = [f"{low}-{high - 1}" for low, high in pairwise(edges)]
    group = np.searchsorted(np.array(edges), length, side="right") - 1
    return [*names, f"{edges[-1]}+"], group
