"""Folders: a window of events becomes a state. One interface, and the way that needs nothing of the model.

    re-encode   the artifact's encode graph over the window. Every model.
    by item     the same numbers in numpy, for item slots (`models/live/by_item.py`).
    additive    only what entered and left the window, for states that are sums (`models/live/additive.py`).

`choose_folder` takes the fastest that the artifact allows. `models/live/ages.py` says from when ages are measured.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from models.contract.record import Mark, UserRecord
from models.contract.schema import FeatureSchema
from models.contract.state_spec import Array, StateSpec
from models.live.ages import Ages
from models.live.window import Window

Encode = Callable[[Mapping[str, NDArray[Any]]], Sequence[Array]]
"""Inputs of an encode graph, history [B, L], ages [B, L] and user_fields [B, Fu], all int64 -> the state's tensors, in
the order of the state spec."""
BATCH_USERS = 64
"""Users of one run of a graph."""


@dataclass(frozen=True)
class Task:
    """A user whose state is to be made.

    Attributes:
        user_id: raw id.
        window: the events.
        user_fields: dense ids of the profile, int64 [Fu].
        version: of the live log that the window holds.
        record: the stored record, if the state may be added to.
        before: the window that it may have been made of.
    """

    user_id: str
    window: Window
    user_fields: NDArray[np.int64]
    version: int
    record: UserRecord | None = None
    before: Window | None = None


@runtime_checkable
class Folder(Protocol):
    """Makes states of windows.

    Attributes:
        name: "re-encode", "by item" or "additive".
    """

    name: str

    def fold(self, tasks: Sequence[Task]) -> list[UserRecord]:
        """The record of each task, in order. The same task gives the same record, whatever came before."""


class ReEncode:
    """The encode graph over the whole window.

    Args:
        schema: inputs of the artifact's model.
        spec: its state spec.
        encode: its encode graph.
        ages: how ages are measured.
    """

    name = "re-encode"

    def __init__(self, schema: FeatureSchema, spec: StateSpec, encode: Encode, ages: Ages) -> None:
        self._schema, self._names, self._encode = schema, [tensor.name for tensor in spec], encode
        self.ages = ages

    def fold(self, tasks: Sequence[Task]) -> list[UserRecord]:
        """Encode in batches."""
        return [
            record_of(task, state, self._schema, self.ages.from_s(task.window))
            for task, state in zip(tasks, self.encode_all(tasks), strict=True)
        ]

    def encode_all(self, tasks: Sequence[Task]) -> list[dict[str, Array]]:
        """The states of any number of tasks."""
        states = []
        for start in range(0, len(tasks), BATCH_USERS):
            states += self.encode(tasks[start : start + BATCH_USERS])
        return states

    def encode(self, tasks: Sequence[Task]) -> list[dict[str, Array]]:
        """The states of a batch."""
        length = self._schema.history_length
        feed = {
            "history": np.stack([task.window.latest_rows(length) for task in tasks]),
            "ages": np.stack([self.ages.latest(task.window, length) for task in tasks]),
            "user_fields": np.stack([task.user_fields for task in tasks]),
        }
        return self.run(feed)

    def run(self, feed: Mapping[str, NDArray[Any]]) -> list[dict[str, Array]]:
        """The graph's states of a batch."""
        tensors = self._encode(feed)
        return [
            {name: tensor[user] for name, tensor in zip(self._names, tensors, strict=True)}
            for user in range(len(feed["history"]))
        ]


def record_of(
    task: Task,
    state: Mapping[str, Array],
    schema: FeatureSchema,
    aged_from_s: int,
    folds: int = 0,
    digest: int = 0,
) -> UserRecord:
    """The record of a task, with its state.

    Args:
        task: the user and the window.
        state: tensors of the state.
        schema: inputs of the model.
        aged_from_s: from when ages are measured.
        folds: additions since the state was encoded as a whole.
        digest: of the window, for a state that is added to.
    """
    window = task.window
    mark = Mark(task.version, aged_from_s, folds, digest)
    recent = window.latest_rows(schema.recent_length).astype(np.int32)
    return UserRecord(task.user_id, window.as_of_s, recent, state, mark)
