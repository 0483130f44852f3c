"""Brings records of one generation up to date with their users' logs: read, fold, compare-and-set, announce.

What `absorb follow` does after each batch of events, and a publish before its flip. It may run any number of times, in
any number of processes, and be killed at any command: a record is made anew of the base history and the whole log, is
written only over the one that was read, and is announced after every attempt.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np

from models.contract.errors import AbsorbError, GenerationError, RecordError
from models.contract.generation import Generation, Pointer, pointer_key
from models.contract.record import (
    UserRecord,
    decode_record,
    encode_record,
    record_artifact,
    record_version,
)
from models.contract.schema import UNKNOWN, FeatureSchema
from models.contract.state_spec import StateSpec
from models.live.additive import MAX_FOLDS, Additive
from models.live.event import Event
from models.live.fold import Folder, Task
from models.live.history import BaseHistory, base_length, decode_history
from models.live.keys import (
    CHANGED_KEY,
    FORGOTTEN_KEY,
    MAX_CHANGED,
    MODEL_FIELD,
    PLACE_FIELD,
    USER_FIELD,
    history_key,
    log_key,
    tombstone,
)
from models.live.log import Commands, UserLog, drop, read_log
from models.live.new_items import NewRows
from models.live.store import compare_and_remove, compare_and_set
from models.live.window import MAX_LATENESS_S, ItemRows, Window, window_of

TRIES = 8
"""How often a user is read again because another worker, or a publish, wrote meanwhile."""
KEPT_WINDOWS = 2
"""A log keeps so many windows of its newest events; older ones can be in no window."""


@runtime_checkable
class Cache(Commands, Protocol):
    """What this room does with a client of the cache: redis-py's has it, for one server and for a cluster."""

    def pipeline(self, transaction: bool = True) -> Any:
        """Commands that are sent together."""


@dataclass(frozen=True)
class Target:
    """A generation whose records follow events.

    Attributes:
        generation: it, as the pointer names it.
        schema: inputs of its artifact's model.
        spec: its state spec.
        item_rows: catalogue rows of raw item ids.
        folder: makes states.
        creates: whether users that its build did not know get a record of their live events alone. Not while the
            generation is being written: its records may come yet.
        new_rows: rows of registered items that its build does not know.
    """

    generation: Generation
    schema: FeatureSchema
    spec: StateSpec
    item_rows: ItemRows
    folder: Folder
    creates: bool = True
    new_rows: NewRows = field(default_factory=NewRows)

    @property
    def length(self) -> int:
        """Most events of a window."""
        return base_length(self.schema)


@dataclass
class Outcome:
    """What became of users.

    Attributes:
        written: records that were written.
        unchanged: users whose record was up to date.
        unfollowed: users whose record has no base history: their generation was published without them.
        foreign: users whose record another artifact made, while, or after, a publish overwrites it in place.
        forgotten: users with a tombstone.
        contended: users that others wrote at each of `TRIES` tries; they must come again.
        failed: user -> why no record can be made.
        logs: user -> the log that was read.
        retries: number of users who were read again, summed over tries.
    """

    written: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    unfollowed: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    contended: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    logs: dict[str, UserLog] = field(default_factory=dict)
    retries: int = 0


@dataclass(frozen=True)
class _Read:
    """What the cache holds of a user.

    Attributes:
        stored: what is under the key of the record.
        record: the same; None if another artifact made it and the generation serves alone: then a worker left it that
            had not seen the end of a publish in place, and no service can read it.
        base: what the build knew.
        log: the live events.
    """

    stored: bytes | None
    record: bytes | None
    base: BaseHistory | None
    log: UserLog


def refold(
    client: Cache,
    target: Target,
    users: Sequence[str],
    *,
    fresh: Mapping[str, Collection[str]] | None = None,
    only_behind: bool = False,
) -> Outcome:
    """Make the records of some users anew.

    Args:
        client: the cache.
        target: the generation.
        users: raw ids, each once; at most some hundreds, which are in memory together.
        fresh: user -> ids of the events that may not be in the record yet; a state that is a sum is added to if the
            other events are those that it holds.
        only_behind: leave records alone whose mark has the version of the log.

    Errors of the client are not translated.
    """
    outcome, left = Outcome(), list(users)
    for _ in range(TRIES):
        if left:
            left = _try(client, target, left, outcome, fresh or {}, only_behind)
            outcome.retries += len(left)
    outcome.contended = left
    _announce(client, target.generation, [*outcome.written, *outcome.unchanged])
    return outcome


def _try(
    client: Cache,
    target: Target,
    users: Sequence[str],
    outcome: Outcome,
    fresh: Mapping[str, Collection[str]],
    only_behind: bool,
) -> list[str]:
    """One attempt; returns the users whose record changed meanwhile."""
    found = _read(client, target, users, outcome)
    outcome.logs |= {user: read.log for user, read in found.items()}
    if only_behind:
        behind = {user: read for user, read in found.items() if not _holds_all(read)}
        outcome.unchanged += sorted(found.keys() - behind.keys())
        found = behind
    tasks = _tasks(target, found, outcome)
    if isinstance(target.folder, Additive):
        tasks = [_with_before(target, task, found[task.user_id], fresh) for task in tasks]
    records = _fold(target, tasks, outcome)
    _remove_unreadable(client, target, found, {task.user_id for task in tasks})
    changes: list[tuple[str, bytes | None, bytes]] = []
    for record in records:
        read, generation = found[record.user_id].stored, target.generation
        try:
            raw = encode_record(record, target.spec, generation.artifact_id, generation.dtype)
        except ValueError as error:
            outcome.failed[record.user_id] = str(error)
            continue
        if raw == read:
            outcome.unchanged.append(record.user_id)
        else:
            changes.append((record.user_id, read, raw))
    return _write(client, target, changes, outcome)


def _fold(target: Target, tasks: Sequence[Task], outcome: Outcome) -> list[UserRecord]:
    """The records; a user whose events the graph cannot take must not keep others from theirs."""
    try:
        return target.folder.fold(tasks)
    except (
        Exception
    ) as error:  # outermost handler of one user: the runtime has error types of its own
        if len(tasks) == 1:
            outcome.failed[tasks[0].user_id] = f"{type(error).__name__}: {error}"
            return []
    return [record for task in tasks for record in _fold(target, [task], outcome)]


def _read(
    client: Cache, target: Target, users: Sequence[str], outcome: Outcome
) -> dict[str, _Read]:
    # The record before its history: a publish writes them the other way round (models/live/store.py).
    with client.pipeline(transaction=False) as pipeline:
        for user in users:
            pipeline.get(target.generation.key(user))
            pipeline.get(history_key(target.generation, user))
            pipeline.hgetall(log_key(user))
        pipeline.hmget(FORGOTTEN_KEY, [tombstone(user) for user in users])
        *answers, tombstones = pipeline.execute()
    found = {}
    for place, user in enumerate(users):
        if tombstones[place] is not None:
            outcome.forgotten.append(user)
            continue
        record, history, log = answers[3 * place : 3 * place + 3]
        artifact_id = target.generation.artifact_id
        is_foreign = record is not None and record_artifact(record) not in (artifact_id, None)
        if is_foreign and not _serves(client, target.generation):
            outcome.foreign.append(user)
            continue
        try:
            base = None if history is None else decode_history(history, artifact_id, user)
            usable = None if is_foreign else record
            found[user] = _Read(record, usable, base, read_log(log))
        except AbsorbError as error:
            outcome.failed[user] = str(error)
    return found


def _serves(client: Cache, generation: Generation) -> bool:
    """Whether the pointer names exactly this generation: no publish in place overwrites it, or has done so."""
    key = pointer_key(generation.model)
    raw = client.execute_command("GET", key)
    try:
        return raw is not None and Pointer.from_bytes(raw, key).current == generation
    except GenerationError:
        return False


def _holds_all(read: _Read) -> bool:
    if read.record is None or read.log.version == 0:
        return False
    return record_version(read.record) == read.log.version


def _tasks(target: Target, found: Mapping[str, _Read], outcome: Outcome) -> list[Task]:
    tasks = []
    for user, read in found.items():
        if read.base is None and read.record is not None and not _is_live(target, read.record):
            outcome.unfollowed.append(user)
            continue
        task = _task(target, user, read)
        if _is_up_to_date(target, read, task):
            outcome.unchanged.append(user)
        else:
            tasks.append(task)
    return tasks


def _is_up_to_date(target: Target, read: _Read, task: Task) -> bool:
    """Whether the record that the publish wrote, or none, is what the window says."""
    is_pure = task.window.num_live == 0
    if read.record is None:
        return not target.creates or (is_pure and read.base is None)
    return is_pure and not _is_live(target, read.record)


def _task(target: Target, user: str, read: _Read) -> Task:
    window = _window(target, read.base, read.log.events)
    if read.base is None:
        fields = np.full(len(target.schema.user_fields), UNKNOWN, np.int64)
    else:
        fields = read.base.user_fields.astype(np.int64)
    return Task(user, window, fields, read.log.version)


def _window(target: Target, base: BaseHistory | None, events: Sequence[Event]) -> Window:
    cut_s = target.generation.as_of_s
    return window_of(base, events, target.item_rows, cut_s, target.length, target.new_rows)


def _remove_unreadable(
    client: Cache, target: Target, found: Mapping[str, _Read], made: Collection[str]
) -> None:
    """Remove records that no service can read, of users of whom the generation knows nothing."""
    for user, read in found.items():
        if read.stored is not None and read.record is None and user not in made:
            compare_and_remove(client, target.generation.key(user), read.stored)


def _with_before(
    target: Target, task: Task, read: _Read, fresh: Mapping[str, Collection[str]]
) -> Task:
    """The task with the stored state, and the window that it may have been made of."""
    generation, new = target.generation, fresh.get(task.user_id, ())
    if read.record is None or task.user_id not in fresh:
        return task
    try:
        record = decode_record(read.record, target.spec, generation.artifact_id, task.user_id)
    except RecordError:
        return task
    known = [event for event in read.log.events if event.event_id not in new]
    if record.mark is None:  # of a publish: it holds no live event
        known = []
    elif record.mark.folds >= MAX_FOLDS[generation.dtype]:
        return task
    if record.mark is None and not MAX_FOLDS[generation.dtype]:
        return task
    before = _window(target, read.base, known)
    return replace(task, record=record, before=before)


def _is_live(target: Target, raw: bytes) -> bool:
    """Whether a worker wrote the record; a damaged one counts as written by a publish."""
    try:
        artifact_id = target.generation.artifact_id
        return decode_record(raw, target.spec, artifact_id).mark is not None
    except RecordError:
        return False


def _write(
    client: Cache,
    target: Target,
    changes: Sequence[tuple[str, bytes | None, bytes]],
    outcome: Outcome,
) -> list[str]:
    """Compare and set; returns the users whose record changed meanwhile."""
    if not changes:
        return []
    key = target.generation.key
    with client.pipeline(transaction=False) as pipeline:
        for user, read, raw in changes:
            compare_and_set(pipeline, key(user), read, raw)
        # After the writes: whoever is forgotten from now on finds what was written.
        pipeline.hmget(FORGOTTEN_KEY, [tombstone(user) for user, _, _ in changes])
        *answers, tombstones = pipeline.execute()
    again = []
    for (user, _, raw), done, mark in zip(changes, answers, tombstones, strict=True):
        if mark is not None:
            compare_and_remove(client, key(user), raw)
            outcome.forgotten.append(user)
        elif done:
            outcome.written.append(user)
        else:
            again.append(user)
    return again


def _announce(client: Cache, generation: Generation, users: Sequence[str]) -> None:
    """Tell the services, even where nothing was written: whoever wrote may have been killed before it told them."""
    if not users:
        return
    with client.pipeline(transaction=False) as pipeline:
        for user in users:
            fields = {
                MODEL_FIELD: generation.model,
                PLACE_FIELD: generation.place,
                USER_FIELD: user,
            }
            pipeline.xadd(CHANGED_KEY, fields, maxlen=MAX_CHANGED, approximate=True)
        pipeline.execute()


def prune(client: Cache, user: str, log: UserLog, oldest_cut_s: int, length: int) -> int:
    """Remove events of a log that are in no window any more; returns their number.

    Args:
        client: the cache, or a pipeline.
        user: raw id.
        log: what the log holds.
        oldest_cut_s: the earliest `as_of_s` of all generations that may serve.
        length: most events of a window of any of them.
    """
    newest = sorted(log.events, key=lambda event: (event.ts_s, event.event_id), reverse=True)
    old = newest[KEPT_WINDOWS * length :]
    late = [event for event in newest if event.ts_s < oldest_cut_s - MAX_LATENESS_S]
    ids = sorted({event.event_id for event in [*old, *late]})
    if ids:
        drop(client, user, ids)
    return len(ids)
