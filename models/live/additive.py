"""*Additive*: states that are sums (`TensorSpec.folds`), by what entered the window and what left it. O(r·D) an event.

    state' = state + Σ c(entered) − Σ c(left),   c(l) the state of a history of event l alone (`event.onnx`)

Contributions must not move while a generation serves, so ages are measured from its cut, not from the newest event; a
newer event has the age of the gap (`models/live/ages.py`). The profile is made anew of the whole window. What the
stored state holds is known by its mark: a digest of its window. If that is not the window that the log gives without
the events of this batch, the user is encoded as a whole, as is one after so many additions that rounding in the
record's dtype could show (`MAX_FOLDS`).
"""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from models.contract.record import UserRecord
from models.contract.schema import FeatureSchema
from models.contract.state_spec import Array, RecordDtype, StateSpec
from models.live.ages import Ages
from models.live.compare import require_equal, sample_tasks
from models.live.fold import Encode, ReEncode, Task, record_of
from models.live.profile import PROFILE, Profiles
from models.live.window import Window

MAX_FOLDS: Mapping[RecordDtype, int] = {"fp32": 32, "fp16": 8, "int8": 0}
"""Additions to a stored state before it is encoded as a whole. Each rounds every number once more: by 2^-24 of the
largest that it ever was in fp32, 2^-11 in fp16; in int8 by 1/254 of its row's, which is too much to add up."""
CLOSE = 1e-5
"""Largest difference between a sum and the encode graph, relative to the tensor's largest number above 1, with which
the folder is used."""


class Additive:
    """Sums of contributions.

    Args:
        schema: inputs of the artifact's model.
        spec: its state spec.
        encode: its encode graph.
        event: its graph of single events.
        gap_s: age of events after the cut (`Manifest.request_gap_s`).
        activity: number of totals in the profile (`activity` of the config).

    Raises:
        ValueError: a tensor beside the profile is no sum, or sums of events are not the state of a history.
    """

    name = "additive"

    def __init__(
        self,
        schema: FeatureSchema,
        spec: StateSpec,
        encode: Encode,
        event: Encode,
        gap_s: int,
        activity: int,
    ) -> None:
        if not is_additive(spec):
            raise ValueError(
                f"state: got {[one.name for one in spec]}, expected sums and a profile"
            )
        self._schema, self._event = schema, event
        self._ages = Ages(gap_s, from_cut=True)
        self._graph = ReEncode(schema, spec, encode, self._ages)
        self._names = [tensor.name for tensor in spec]
        self._profiles = Profiles(schema, self._graph, activity)
        tasks = sample_tasks(schema, schema.history_length)
        empty = {one.name: np.zeros(one.shape, np.float32) for one in spec}
        none = Window(np.zeros(0, np.int64), np.zeros(0, np.int64), 0, 0, 0)
        require_equal(
            self._add(tasks, [(empty, none)] * len(tasks), [1] * len(tasks)),
            self._encode(tasks),
            CLOSE,
            are_sums=True,
        )

    def fold(self, tasks: Sequence[Task]) -> list[UserRecord]:
        """Add where the stored state is known, encode elsewhere."""
        known = [task for task in tasks if _is_known(task)]
        before = [(t.record.state, t.before) for t in known if t.record and t.before]
        folds = [1 + (t.record.mark.folds if t.record and t.record.mark else 0) for t in known]
        added = iter(self._add(known, before, folds))
        encoded = iter(self._encode([task for task in tasks if not _is_known(task)]))
        return [next(added) if _is_known(task) else next(encoded) for task in tasks]

    def _encode(self, tasks: Sequence[Task]) -> list[UserRecord]:
        states = self._graph.encode_all(tasks)
        return [
            record_of(task, state, self._schema, task.window.cut_s, 0, digest(task.window))
            for task, state in zip(tasks, states, strict=True)
        ]

    def _add(
        self,
        tasks: Sequence[Task],
        before: Sequence[tuple[Mapping[str, Array], Window]],
        folds: Sequence[int],
    ) -> list[UserRecord]:
        if not tasks:
            return []
        length = self._schema.history_length
        changes = [
            _difference(_latest(task.window, length), _latest(old, length))
            for task, (_, old) in zip(tasks, before, strict=True)
        ]
        user = np.repeat(np.arange(len(tasks)), [len(times) for _, _, times in changes])
        rows = np.concatenate([rows for rows, _, _ in changes])
        cut_s = np.array([task.window.cut_s for task in tasks], np.int64)
        ts_s = np.concatenate([ts_s for _, ts_s, _ in changes])
        ages = self._ages.buckets(ts_s, cut_s[user], cut_s[user])
        times = np.concatenate([times for _, _, times in changes]).astype(np.float32)
        sums = self._contributions(rows, ages, times, user, len(tasks))
        profiles = self._profiles.of(tasks)
        records = []
        for place, (task, (state, _)) in enumerate(zip(tasks, before, strict=True)):
            new = {name: state[name] + total[place] for name, total in sums.items()}
            new[PROFILE] = profiles[place]
            cut = task.window.cut_s
            mark = digest(task.window)
            records.append(record_of(task, new, self._schema, cut, folds[place], mark))
        return records

    def _contributions(
        self,
        rows: NDArray[np.int64],
        ages: NDArray[np.int64],
        times: NDArray[np.float32],
        user: NDArray[np.int64],
        num_users: int,
    ) -> dict[str, Array]:
        """Sum over each user of events' states times how often they entered (below 0: left)."""
        fields = np.ones((len(rows), len(self._schema.user_fields)), np.int64)
        feed = {"history": rows[:, None], "ages": ages[:, None], "user_fields": fields}
        tensors = self._event(feed) if len(rows) else []
        sums = {}
        for name, values in zip(self._names, tensors, strict=False):
            if name != PROFILE:
                weights = times.reshape(-1, *[1] * (values.ndim - 1))
                total = np.zeros((num_users, *values.shape[1:]), np.float32)
                np.add.at(total, user, values * weights)
                sums[name] = total
        zeros = np.zeros(num_users, np.float32)
        return sums or {name: zeros for name in self._names if name != PROFILE}


def is_additive(spec: StateSpec) -> bool:
    """Whether every tensor beside the profile is a sum over events."""
    others = [tensor for tensor in spec if tensor.name != PROFILE]
    return len(others) < len(spec) and bool(others) and all(one.folds == "sum" for one in others)


def digest(window: Window) -> int:
    """64 bits that tell windows apart."""
    content = window.rows.tobytes() + window.ts_s.tobytes()
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def _is_known(task: Task) -> bool:
    """Whether the stored state is the one of the window before, with ages from the same cut."""
    record, before = task.record, task.before
    if record is None or before is None:
        return False
    if record.mark is None:
        return record.as_of_s == task.window.cut_s
    is_same = record.mark.digest == digest(before)
    return is_same and record.mark.aged_from_s == task.window.cut_s


def _latest(window: Window, length: int) -> NDArray[np.int64]:
    """The events that a state of histories of `length` is made of: rows and times, int64 [n, 2]."""
    return np.stack([window.rows[-length:], window.ts_s[-length:]], 1)


def _difference(
    new: NDArray[np.int64], old: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Rows and times of the events that entered or left, and how often; below 0: left."""
    sign = np.concatenate([np.ones(len(new)), -np.ones(len(old))])
    events, place = np.unique(np.concatenate([new, old]), axis=0, return_inverse=True)
    times = np.bincount(place.reshape(-1), sign, len(events)).astype(np.float64)
    moved = times != 0
    return events[moved, 0], events[moved, 1], times[moved]
