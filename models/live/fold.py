"""Folders: a window of events becomes a state. One interface, and the way that needs nothing of the model.

    re-encode   the artifact's encode graph over the window; ages from the window's `as_of_s`. Every model.
    by item     the same numbers in numpy, for item slots (`models/live/by_item.py`).
    additive    only what entered and left the window, for states that are sums (`models/live/additive.py`).

`choose_folder` takes the fastest that the artifact allows.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from models.contract.record import Mark, UserRecord
from models.contract.schema import FeatureSchema
from models.contract.state_spec import Array, StateSpec
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
    """

    name = "re-encode"

    def __init__(self, schema: FeatureSchema, spec: StateSpec, encode: Encode) -> None:
        self._schema, self._names, self._encode = schema, [tensor.name for tensor in spec], encode

    def fold(self, tasks: Sequence[Task]) -> list[UserRecord]:
        """Encode in batches, with ages from each window's `as_of_s`."""
        states = self.encode_all(tasks, [task.window.as_of_s for task in tasks])
        return [
            record_of(task, state, self._schema) for task, state in zip(tasks, states, strict=True)
        ]

    def encode_all(
        self, tasks: Sequence[Task], aged_from_s: Sequence[int]
    ) -> list[dict[str, Array]]:
        """The states of any number of tasks, with ages measured from the given epoch seconds."""
        states = []
        for start in range(0, len(tasks), BATCH_USERS):
            part = slice(start, start + BATCH_USERS)
            states += self.encode(tasks[part], aged_from_s[part])
        return states

    def encode(self, tasks: Sequence[Task], aged_from_s: Sequence[int]) -> list[dict[str, Array]]:
        """The states of a batch, with ages measured from the given epoch seconds."""
        length = self._schema.history_length
        feed = {
            "history": np.stack([task.window.latest_rows(length) for task in tasks]),
            "ages": np.stack(
                [
                    task.window.latest_ages(length, from_s)
                    for task, from_s in zip(tasks, aged_from_s, strict=True)
                ]
            ),
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
    aged_from_s: int | None = None,
    folds: int = 0,
    digest: int = 0,
) -> UserRecord:
    """The record of a task, with its state.

    Args:
        task: the user and the window.
        state: tensors of the state.
        schema: inputs of the model.
        aged_from_s: from when ages are measured; None: the window's `as_of_s`.
        folds: additions since the state was encoded as a whole.
        digest: of the window, for a state that is added to.
    """
    window = task.window
    from_s = window.as_of_s if aged_from_s is None else aged_from_s
    mark = Mark(task.version, from_s, folds, digest)
    recent = window.latest_rows(schema.recent_length).astype(np.int32)
    return UserRecord(task.user_id, window.as_of_s, recent, state, mark)
