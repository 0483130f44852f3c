"""A folder is used only if it gives the encode graph's states on some windows."""

from collections.abc import Sequence

import numpy as np

from models.contract.record import UserRecord
from models.contract.schema import FIRST_KNOWN, UNKNOWN, FeatureSchema
from models.live.fold import Task
from models.live.window import Window

CHECKED = 24
"""Windows on which a new folder is compared with the graph."""


def sample_tasks(schema: FeatureSchema, many: int) -> list[Task]:
    """Windows from empty to full, of few and of about `many` different items."""
    rng, tasks = np.random.default_rng(0), []
    fields = np.full(len(schema.user_fields), UNKNOWN, np.int64)
    for number in range(CHECKED):
        size = int(rng.integers(0, schema.history_length + 1)) if number else 0
        few = int(rng.integers(1, 2 + 2 * many))
        items = rng.integers(UNKNOWN, max(FIRST_KNOWN, schema.num_items), few)
        ts_s = np.sort(rng.integers(0, 10 ** int(rng.integers(3, 10)), size))
        as_of_s = int(ts_s.max(initial=0)) + 1
        tasks.append(
            Task("", Window(rng.choice(items, size), ts_s, as_of_s, as_of_s, 0), fields, 0)
        )
    return tasks


def require_equal(
    got: Sequence[UserRecord],
    expected: Sequence[UserRecord],
    close: float,
    *,
    are_sums: bool = False,
) -> None:
    """Raise ValueError if a state differs by more than `close`, relative above 1.

    Args:
        got: records.
        expected: those that the encode graph gives.
        close: largest difference.
        are_sums: whether it is relative to the largest number of the tensor: terms of a sum may cancel, and then what
            their rounding leaves is large beside the number itself.
    """
    for mine, graphs in zip(got, expected, strict=True):
        for name, values in graphs.state.items():
            largest = float(np.abs(values).max(initial=0.0)) if are_sums else 0.0
            if not np.allclose(
                mine.state[name], values, rtol=close, atol=close * max(1.0, largest)
            ):
                raise ValueError(f"state {name!r}: the encode graph gives other numbers")
