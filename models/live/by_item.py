"""*By item*: item slots in numpy, equal to the encode graph to 1e-6, without running it.

A slot's sum is Σ_l g(age of l) over the item's events (`models/readers/item_slots.py`), so a table of g for each age
bucket is all that is needed of the weights. It is read out of the graph itself: the states of histories of one event,
one for each bucket, are its rows.

Sums of slots are added in the graph's order in float32, so that both choose the same items; the profile's totals are
added in float64, and differ from the graph's by what that rounds: by 1.1e-6 at most for 2,469 users of a shop at
L = 2,000. Where the choice, or the order of the slots, hangs on the last bits, the graph decides: that user is encoded.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.contract.age import NUM_AGES
from models.contract.record import UserRecord
from models.contract.schema import FeatureSchema
from models.contract.state_spec import Array, StateSpec
from models.live.ages import Ages
from models.live.compare import require_equal, sample_tasks
from models.live.fold import Encode, ReEncode, Task, record_of
from models.live.profile import PROFILE, Profiles

ITEMS, SUMS = "slot_items", "slot_sums"
NEWER = 0.01
"""As in `models/blocks/lookup/item_runs.py`: what a sum gains from the oldest event to the newest."""
CLOSE_ULPS = 4
"""Sums that differ by so few units in the last place may be ordered otherwise by the graph."""
CLOSE = 2e-6
"""Largest difference from the graph, relative above 1, with which the folder is used."""


class ByItem:
    """Item slots, with or without counts.

    Args:
        schema: inputs of the artifact's model.
        spec: its state spec.
        encode: its encode graph, which is probed here.
        ages: how ages are measured.
        heads: H, the heads whose sums choose the items (`heads` of the model's config).
        activity: number of totals in the profile (`activity` of the config).

    Raises:
        ValueError: the state is not one of item slots, or the graph gives something else than this folder.
    """

    name = "by item"

    def __init__(
        self,
        schema: FeatureSchema,
        spec: StateSpec,
        encode: Encode,
        ages: Ages,
        *,
        heads: int,
        activity: int,
    ) -> None:
        named = {tensor.name: tensor for tensor in spec}
        if named.keys() != {PROFILE, ITEMS, SUMS}:
            raise ValueError(f"state: got {list(named)}, expected {PROFILE}, {ITEMS} and {SUMS}")
        self._schema, self._graph = schema, ReEncode(schema, spec, encode, ages)
        self._rank, self._heads = named[ITEMS].shape[0], heads
        self._holds_ages = named[ITEMS].ids == "rows and ages"
        self._profiles = Profiles(schema, self._graph, activity)
        worth = np.stack([state[SUMS][0] for state in self._profiles.of_each_age(1)])
        self._worth: NDArray[np.float32] = worth.astype(np.float32)  # [NUM_AGES, W]
        tasks = sample_tasks(schema, self._rank)
        require_equal(self.fold(tasks), self._graph.fold(tasks), CLOSE)

    def fold(self, tasks: Sequence[Task]) -> list[UserRecord]:
        """Sum by item; encode the users whose order of items hangs on the last bits."""
        profiles = self._profiles.of(tasks)
        slots = [self._slots(task) for task in tasks]
        close = [task for task, found in zip(tasks, slots, strict=True) if found is None]
        encoded = iter(self._graph.fold(close))
        return [
            next(encoded)
            if found is None
            else record_of(
                task,
                {PROFILE: profile, **found},
                self._schema,
                self._graph.ages.from_s(task.window),
            )
            for task, profile, found in zip(tasks, profiles, slots, strict=True)
        ]

    def _slots(self, task: Task) -> dict[str, Array] | None:
        """The slots; None if the order of their items hangs on the last bits."""
        length, width = self._schema.history_length, self._worth.shape[1]
        rows = task.window.rows[-length:]
        ages = self._graph.ages.latest(task.window, len(rows))
        items, item = np.unique(rows, return_inverse=True)
        sums = np.zeros((len(items), width), np.float32)
        place = item[:, None] * width + np.arange(width)
        np.add.at(sums.reshape(-1), place.reshape(-1), self._worth[ages].reshape(-1))
        last = np.zeros(len(items), np.int64)
        last[item] = np.arange(len(rows))  # of equal places the last assignment counts
        total = sums[:, : self._heads].mean(1, dtype=np.float32)
        newest = (last + length - len(rows)).astype(np.float32)
        score = total + np.float32(NEWER / length) * newest
        order = np.argsort(-score, kind="stable")
        if _is_close(score[order[: self._rank + 1]]):
            return None
        order = order[: self._rank]
        kept, packed = len(order), items[order]
        if self._holds_ages:
            packed = packed * NUM_AGES + ages[last[order]]
        slot_items = np.zeros(self._rank, np.int32)
        slot_sums = np.zeros((self._rank, width), np.float32)
        slot_items[:kept], slot_sums[:kept] = packed, sums[order]
        return {ITEMS: slot_items, SUMS: slot_sums}


def _is_close(score: NDArray[np.float32]) -> bool:
    """Whether two neighbours of a descending order differ by the last bits only."""
    gaps = score[:-1] - score[1:]
    return bool((gaps <= CLOSE_ULPS * np.spacing(score[:-1])).any())
