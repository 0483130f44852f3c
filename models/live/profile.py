"""The tensor `profile` of a sequence model in numpy: user fields, totals of the history by age, and its length.

`models/blocks/frame.py` has the equations. What they need of the weights is read out of the encode graph.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.contract.age import NUM_AGES
from models.contract.schema import UNKNOWN, FeatureSchema
from models.contract.state_spec import Array
from models.live.fold import ReEncode, Task

PROFILE = "profile"
LENGTH_SCALE = 8.0
"""As in `models/blocks/frame.py`: log(1 + total) is divided by it."""
MAX_PROFILES = 10_000
"""Profiles whose part of the state is remembered."""


class Profiles:
    """Makes profiles.

    Args:
        schema: inputs of the artifact's model.
        graph: its encode graph.
        activity: number of totals (`activity` of the model's config).
    """

    def __init__(self, schema: FeatureSchema, graph: ReEncode, activity: int) -> None:
        self._schema, self._graph, self._activity = schema, graph, activity
        self._known: dict[bytes, NDArray[np.float32]] = {}
        # Of full histories: the graph rounds 1 + total, and an event adds as little as 0.0003 to it.
        length = schema.history_length
        profiles = np.stack([state[PROFILE] for state in self.of_each_age(length)])
        totals = profiles[:, -1 - activity : -1].astype(np.float64)
        self._totals = np.expm1(totals * LENGTH_SCALE) / length

    def of_each_age(self, num_events: int) -> list[dict[str, Array]]:
        """The graph's states of histories of one item's events, all of one age bucket; the first is empty."""
        history = np.zeros((NUM_AGES, self._schema.history_length), np.int64)
        ages = np.zeros_like(history)
        history[1:, -num_events:] = UNKNOWN
        ages[1:, -num_events:] = np.arange(1, NUM_AGES)[:, None]
        fields = np.full((NUM_AGES, len(self._schema.user_fields)), UNKNOWN, np.int64)
        return self._graph.run({"history": history, "ages": ages, "user_fields": fields})

    def of(self, tasks: Sequence[Task]) -> list[NDArray[np.float32]]:
        """The profile of each task, with ages measured as the graph's folder does."""
        length = self._schema.history_length
        profiles = []
        for task, fields in zip(tasks, self._of_fields(tasks), strict=True):
            size = min(length, len(task.window.rows))
            profile = fields.copy()
            if self._activity:
                totals = self._totals[self._graph.ages.latest(task.window, size)].sum(0)
                profile[-1 - self._activity : -1] = np.log1p(totals) / LENGTH_SCALE
            profile[-1] = np.log1p(np.float32(size)) / LENGTH_SCALE
            profiles.append(profile)
        return profiles

    def _of_fields(self, tasks: Sequence[Task]) -> list[NDArray[np.float32]]:
        """Each task's profile as it is without events; from the graph, once for each different one."""
        keys = [task.user_fields.tobytes() for task in tasks]
        if len(self._known) + len(tasks) > MAX_PROFILES:
            self._known.clear()
        new = {key: task.user_fields for key, task in zip(keys, tasks, strict=True)}
        new = {key: fields for key, fields in new.items() if key not in self._known}
        if new:
            empty = np.zeros((len(new), self._schema.history_length), np.int64)
            fields = np.stack(list(new.values()))
            states = self._graph.run({"history": empty, "ages": empty, "user_fields": fields})
            for key, state in zip(new, states, strict=True):
                self._known[key] = state[PROFILE].astype(np.float32)
        return [self._known[key] for key in keys]
