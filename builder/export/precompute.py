"""Artifact + Events -> records: every user's history, encoded in batches by the artifact's own graph.

Memory does not grow with the number of users: histories are read from mapped files, records are written one by one.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from builder.dataset.latest import latest_events
from builder.errors import StepError
from builder.export.session import open_graph, run_graph
from builder.ingest.events import Events
from models.contract.artifact import ENCODE, Artifact
from models.contract.errors import CorruptRecordError
from models.contract.record import UserRecord, encode_record, record_owner
from models.contract.state_spec import RecordDtype
from models.live.history import BaseHistory, base_length, encode_history, history_owner

BATCH_USERS = 256
LENGTH = struct.Struct("<I")
READ_BYTES = 1 << 20


@dataclass(frozen=True)
class Written:
    """What `write_records` wrote.

    Attributes:
        users: number of records.
        total_bytes: size of all records.
        largest_bytes: size of the largest one.
    """

    users: int = 0
    total_bytes: int = 0
    largest_bytes: int = 0

    def with_record(self, num_bytes: int) -> "Written":
        """The same after one more record."""
        return Written(
            self.users + 1, self.total_bytes + num_bytes, max(self.largest_bytes, num_bytes)
        )


def precompute(artifact: Artifact, events: Events, threads: int) -> Iterator[UserRecord]:
    """Encode every user of the log as of its end, in the order of `events.user_ids`.

    Raises:
        StepError: the log was ingested with other lengths or vocabularies than the artifact was trained with.
    """
    schema = artifact.manifest.schema
    if events.schema != artifact.log_schema:
        raise StepError(
            "precompute: the ingested log does not have the artifact's schema; train again"
        )
    session = open_graph(artifact.graph(ENCODE), threads)
    names = [tensor.name for tensor in artifact.manifest.state_spec]
    as_of_s = events.as_of_s
    for start in range(0, events.num_users, BATCH_USERS):
        users = np.arange(start, min(start + BATCH_USERS, events.num_users))
        length = max(schema.history_length, schema.recent_length)
        latest = np.stack(
            [latest_events(events, int(user), length, as_of_s) for user in users]
        )  # (B, 2, length)
        history, ages = latest[:, :, length - schema.history_length :].transpose(1, 0, 2)
        profile = np.asarray(events.user_fields[users]).astype(np.int64)
        state = run_graph(
            session, {"history": history.copy(), "ages": ages.copy(), "user_fields": profile}
        )
        recent = latest[:, 0, length - schema.recent_length :].astype(np.int32)
        for row, user in enumerate(users):
            tensors = {name: tensor[row] for name, tensor in zip(names, state, strict=True)}
            yield UserRecord(events.user_ids[user], as_of_s, recent[row], tensors)


def write_records(
    records: Iterator[UserRecord], artifact: Artifact, dtype: RecordDtype, path: Path
) -> Written:
    """Write all records to one file, each after its length."""
    spec, written = artifact.manifest.state_spec, Written()
    with path.open("wb") as file:
        for record in records:
            raw = encode_record(record, spec, artifact.artifact_id, dtype)
            file.write(LENGTH.pack(len(raw)) + raw)
            written = written.with_record(len(raw))
    return written


def base_histories(artifact: Artifact, events: Events) -> Iterator[tuple[str, bytes]]:
    """User id and packed base history of every user: the events that `precompute` encodes, with their times.

    In the order of `events.user_ids`, and so of the records.
    """
    length, as_of_s = base_length(artifact.manifest.schema), events.as_of_s
    for user, user_id in enumerate(events.user_ids):
        own = slice(int(events.offsets[user]), int(events.offsets[user + 1]))
        is_positive = events.label[own] == 1
        rows = np.asarray(events.item[own][is_positive][-length:])
        ts_s = np.asarray(events.ts_s[own][is_positive][-length:])
        fields = np.asarray(events.user_fields[user])
        base = BaseHistory(user_id, artifact.artifact_id, as_of_s, fields, rows, ts_s)
        yield user_id, encode_history(base)


def write_histories(histories: Iterator[tuple[str, bytes]], path: Path) -> int:
    """Write all base histories to one file, each after its length; returns their bytes."""
    total = 0
    with path.open("wb") as file:
        for _, raw in histories:
            file.write(LENGTH.pack(len(raw)) + raw)
            total += len(raw)
    return total


def read_histories(path: Path) -> Iterator[tuple[str, bytes]]:
    """User id and packed base history of each user, from a file that `write_histories` wrote.

    A publish checks each before it writes it; here, only the file's frame and the owner are read.

    Raises:
        CorruptRecordError: the file is truncated, or holds something else.
    """
    for raw in _framed(path):
        yield history_owner(raw), raw


def read_records(path: Path) -> Iterator[tuple[str, bytes]]:
    """User id and packed record of each user, from a file that `write_records` wrote.

    A publish checks each before it writes it; here, only the file's frame and the owner are read.

    Raises:
        CorruptRecordError: the file is truncated, or holds something else.
    """
    for raw in _framed(path):
        yield record_owner(raw), raw


def _framed(path: Path) -> Iterator[bytes]:
    """What follows each length in a file."""
    with path.open("rb", READ_BYTES) as file:
        while head := file.read(LENGTH.size):
            size = LENGTH.unpack(head)[0] if len(head) == LENGTH.size else 1
            raw = file.read(size)
            if len(raw) < size:
                raise CorruptRecordError(f"{path.name} is truncated in its last entry")
            yield raw
