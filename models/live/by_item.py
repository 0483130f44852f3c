"""*By item*: item slots in numpy, equal to the encode graph to 1e-6, without running it.

A slot's sum is Σ_l g(age of l) over the item's events (`models/readers/item_slots.py`), so a table of g for each age
bucket is all that is needed of the weights. It is read out of the graph itself: the states of histories of one event,
one for each bucket, are its rows, and so are the totals in the profile. The part of the profile that the user fields
make comes from the graph, once for each different profile.

Sums of slots are added in the graph's order in float32, so that both choose the same items; totals are added in
float64, and differ from the graph's by what that rounds: by 1.1e-6 at most for 2,469 users of a shop at L = 2,000. Where the choice, or the order of
the slots, hangs on the last bits, the graph decides: that user is encoded.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from models.contract.age import NUM_AGES
from models.contract.record import UserRecord
from models.contract.schema import FIRST_KNOWN, UNKNOWN, FeatureSchema
from models.contract.state_spec import Array, StateSpec
from models.live.fold import Encode, ReEncode, Task, record_of
from models.live.window import Window

PROFILE, ITEMS, SUMS = "profile", "slot_items", "slot_sums"
LENGTH_SCALE = 8.0
"""As in `models/blocks/frame.py`: log(1 + total) is divided by it."""
NEWER = 0.01
"""As in `models/blocks/lookup/item_runs.py`: what a sum gains from the oldest event to the newest."""
CLOSE_ULPS = 4
"""Sums that differ by so few units in the last place may be ordered otherwise by the graph."""
MAX_PROFILES = 10_000
"""Profiles whose part of the state is remembered."""
CHECKED = 24
"""Windows on which a new folder is compared with the graph."""
CLOSE = 2e-6
"""Largest difference from the graph, relative above 1, with which the folder is used."""


class ByItem:
    """Item slots, with or without counts.

    Args:
        schema: inputs of the artifact's model.
        spec: its state spec.
        encode: its encode graph, which is probed here.
        heads: H, the heads whose sums choose the items (`heads` of the model's config).
        activity: number of totals in the profile (`activity` of the config).

    Raises:
        ValueError: the state is not one of item slots, or the graph gives something else than this folder.
    """

    name = "by item"

    def __init__(
        self, schema: FeatureSchema, spec: StateSpec, encode: Encode, *, heads: int, activity: int
    ) -> None:
        named = {tensor.name: tensor for tensor in spec}
        if named.keys() != {PROFILE, ITEMS, SUMS}:
            raise ValueError(f"state: got {list(named)}, expected {PROFILE}, {ITEMS} and {SUMS}")
        self._schema, self._graph = schema, ReEncode(schema, spec, encode)
        self._rank, self._heads, self._activity = named[ITEMS].shape[0], heads, activity
        self._holds_ages = named[ITEMS].ids == "rows and ages"
        self._profiles: dict[bytes, NDArray[np.float32]] = {}
        self._worth, self._totals = self._probe()
        self._compare()

    def fold(self, tasks: Sequence[Task]) -> list[UserRecord]:
        """Sum by item; encode the users whose order of items hangs on the last bits."""
        profiles = self._of_fields(tasks)
        states = [
            self._state(task.window, fields) for task, fields in zip(tasks, profiles, strict=True)
        ]
        close = [place for place, state in enumerate(states) if state is None]
        encoded = iter(self._graph.fold([tasks[place] for place in close]))
        return [
            next(encoded) if state is None else record_of(task, state, self._schema)
            for task, state in zip(tasks, states, strict=True)
        ]

    def _probe(self) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Worth of an event by age bucket, [NUM_AGES, W], and what it adds to each total, [NUM_AGES, A]."""
        length = self._schema.history_length
        worth = np.stack([state[SUMS][0] for state in self._of_each_age(1)])
        # Of full histories: the graph rounds 1 + total, and an event adds as little as 0.0003 to it.
        profiles = np.stack([state[PROFILE] for state in self._of_each_age(length)])
        totals = profiles[:, -1 - self._activity : -1].astype(np.float64)
        return worth.astype(np.float32), np.expm1(totals * LENGTH_SCALE) / length

    def _of_each_age(self, num_events: int) -> list[dict[str, Array]]:
        """The graph's states of histories of one item's events, all of one age bucket; the first is empty."""
        history = np.zeros((NUM_AGES, self._schema.history_length), np.int64)
        ages = np.zeros_like(history)
        history[1:, -num_events:] = UNKNOWN
        ages[1:, -num_events:] = np.arange(1, NUM_AGES)[:, None]
        fields = np.full((NUM_AGES, len(self._schema.user_fields)), UNKNOWN, np.int64)
        return self._graph.run({"history": history, "ages": ages, "user_fields": fields})

    def _compare(self) -> None:
        """Raise ValueError if some windows give other states than the graph."""
        rng, tasks = np.random.default_rng(0), []
        length = self._schema.history_length
        for number in range(CHECKED):
            size = int(rng.integers(0, length + 1)) if number else 0
            few = max(1, int(rng.integers(1, 2 + 2 * self._rank)))
            items = rng.integers(UNKNOWN, max(FIRST_KNOWN, self._schema.num_items), few)
            ts_s = np.sort(rng.integers(0, 10 ** int(rng.integers(3, 10)), size))
            tasks.append(self._task(rng.choice(items, size), ts_s, int(ts_s.max(initial=0)) + 1))
        for mine, graphs in zip(self.fold(tasks), self._graph.fold(tasks), strict=True):
            for name, expected in graphs.state.items():
                if not np.allclose(mine.state[name], expected, rtol=CLOSE, atol=CLOSE):
                    raise ValueError(f"state {name!r}: the encode graph gives other numbers")

    def _task(self, rows: NDArray[np.int64], ts_s: NDArray[np.int64], as_of_s: int) -> Task:
        fields = np.full(len(self._schema.user_fields), UNKNOWN, np.int64)
        return Task("", Window(rows.astype(np.int64), ts_s, as_of_s, 0), fields, 0)

    def _of_fields(self, tasks: Sequence[Task]) -> list[NDArray[np.float32]]:
        """Each task's profile as it is without events."""
        keys = [task.user_fields.tobytes() for task in tasks]
        if len(self._profiles) + len(tasks) > MAX_PROFILES:
            self._profiles.clear()
        new = {key: task.user_fields for key, task in zip(keys, tasks, strict=True)}
        new = {key: fields for key, fields in new.items() if key not in self._profiles}
        if new:
            empty = np.zeros((len(new), self._schema.history_length), np.int64)
            fields = np.stack(list(new.values()))
            states = self._graph.run({"history": empty, "ages": empty, "user_fields": fields})
            for key, state in zip(new, states, strict=True):
                self._profiles[key] = state[PROFILE].astype(np.float32)
        return [self._profiles[key] for key in keys]

    def _state(self, window: Window, fields: NDArray[np.float32]) -> Mapping[str, Array] | None:
        """The state; None if the order of its items hangs on the last bits."""
        length = self._schema.history_length
        rows = window.rows[-length:]
        ages = window.latest_ages(len(rows), window.as_of_s)
        slots = self._slots(rows, ages)
        if slots is None:
            return None
        profile = fields.copy()
        if self._activity:
            totals = self._totals[ages].sum(0)
            profile[-1 - self._activity : -1] = np.log1p(totals) / LENGTH_SCALE
        profile[-1] = np.log1p(np.float32(len(rows))) / LENGTH_SCALE
        return {PROFILE: profile, **slots}

    def _slots(self, rows: NDArray[np.int64], ages: NDArray[np.int64]) -> dict[str, Array] | None:
        length, width = self._schema.history_length, self._worth.shape[1]
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
        slot_items, slot_sums = (
            np.zeros(self._rank, np.int32),
            np.zeros((self._rank, width), np.float32),
        )
        slot_items[:kept], slot_sums[:kept] = packed, sums[order]
        return {ITEMS: slot_items, SUMS: slot_sums}


def _is_close(score: NDArray[np.float32]) -> bool:
    """Whether two neighbours of a descending order differ by the last bits only."""
    gaps = score[:-1] - score[1:]
    return bool((gaps <= CLOSE_ULPS * np.spacing(score[:-1])).any())
