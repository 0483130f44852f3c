"""The base history of a user: what a build knew of the user, which a publish writes beside each record.

The worker needs it to make a state anew: live events are folded into a *window* of the latest events
(`models/live/window.py`), and the events before the build's cut are in no live log. One packed value per user, under
`history_key`:

    magic 4 | codec 1 | user fields 1 | user id bytes 2 | events 4 | artifact id 16 | as_of_s 8 |
    user id | dense ids of the user fields (int32) | catalogue rows (int32) | epoch seconds (uint32) | crc32 4

Events are the latest positives of the log, oldest first, without padding; of equal times, in the log's order. All
numbers are little-endian. Rows and ids are those of the artifact's vocabulary, so no other artifact may read them.
"""

import struct
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.contract.epoch import END_OF_TIME_S
from models.contract.errors import CorruptRecordError, ForeignRecordError
from models.contract.schema import FeatureSchema

MAGIC = b"ABSH"
CODEC = 1
HEADER = struct.Struct("<4sBBHI16sq")
CHECKSUM = struct.Struct("<I")
EVENT_BYTES = 8
"""Catalogue row and epoch second."""


@dataclass(frozen=True)
class BaseHistory:
    """What a build knew of a user.

    Attributes:
        user_id: raw id.
        artifact_id: the artifact whose vocabulary made the ids.
        as_of_s: cut of the build: epoch second just after the last event of its log.
        user_fields: dense ids of the profile, int32 [Fu].
        rows: catalogue rows of the latest events, oldest first, int32 [n].
        ts_s: their epoch seconds, which do not decrease, int64 [n].
    """

    user_id: str
    artifact_id: str
    as_of_s: int
    user_fields: NDArray[np.int32]
    rows: NDArray[np.int32]
    ts_s: NDArray[np.int64]


def base_length(schema: FeatureSchema) -> int:
    """Most events of a base history: as many as `encode` or `score` reads."""
    return max(schema.history_length, schema.recent_length)


def history_bytes(user_id_bytes: int, user_fields: int, events: int) -> int:
    """Size of a base history in bytes."""
    body = user_id_bytes + 4 * user_fields + EVENT_BYTES * events
    return HEADER.size + body + CHECKSUM.size


def encode_history(history: BaseHistory) -> bytes:
    """Pack a base history.

    Raises:
        ValueError: a number does not fit its type, the arrays of the events differ in length, or times decrease.
    """
    rows, ts_s, artifact = history.rows, history.ts_s, bytes.fromhex(history.artifact_id)
    if len(rows) != len(ts_s) or len(artifact) != 16:
        raise ValueError(
            f"history: got {len(rows)} rows, {len(ts_s)} times and an artifact id of {len(artifact)} bytes, "
            "expected as many times as rows and 16 bytes"
        )
    is_time = (ts_s >= 0) & (ts_s <= END_OF_TIME_S)
    if not is_time.all() or (np.diff(ts_s) < 0).any():
        raise ValueError("history: got times that decrease or are no epoch seconds before 2100")
    user = history.user_id.encode()
    sizes = len(history.user_fields), len(user), len(rows)
    header = HEADER.pack(MAGIC, CODEC, *sizes, artifact, history.as_of_s)
    columns = (history.user_fields.astype("<i4"), rows.astype("<i4"), ts_s.astype("<u4"))
    body = header + user + b"".join(column.tobytes() for column in columns)
    return body + CHECKSUM.pack(zlib.crc32(body))


def decode_history(
    raw: bytes, artifact_id: str | None = None, user_id: str | None = None
) -> BaseHistory:
    """Unpack a base history.

    Args:
        raw: bytes of any origin.
        artifact_id: the artifact that must have made it; None: any.
        user_id: the user that it must be for; None: any.

    Raises:
        CorruptRecordError: the bytes are truncated, damaged, of another codec, or no base history.
        ForeignRecordError: it is of another artifact or of another user.
    """
    if len(raw) < HEADER.size + CHECKSUM.size:
        raise CorruptRecordError(f"base history truncated: got {len(raw)} bytes")
    magic, codec, fields, user_size, events, artifact, as_of_s = HEADER.unpack_from(raw)
    if magic != MAGIC or codec != CODEC:
        raise CorruptRecordError(f"not a base history of codec {CODEC}: it starts with {raw[:5]!r}")
    size = history_bytes(user_size, fields, events)
    if len(raw) != size:
        raise CorruptRecordError(f"base history: got {len(raw)} bytes, the header says {size}")
    if zlib.crc32(memoryview(raw)[:-4]) != CHECKSUM.unpack_from(raw, size - 4)[0]:
        raise CorruptRecordError("base history: the checksum does not match its content")
    if artifact_id is not None and artifact.hex() != artifact_id:
        raise ForeignRecordError("artifact of the base history", artifact.hex(), artifact_id)
    start = HEADER.size + user_size
    owner = raw[HEADER.size : start].decode(errors="replace")
    if user_id is not None and owner != user_id:
        raise ForeignRecordError("user of the base history", owner, user_id)
    user_fields = np.frombuffer(raw, "<i4", fields, start)
    rows = np.frombuffer(raw, "<i4", events, start + 4 * fields)
    ts_s = np.frombuffer(raw, "<u4", events, start + 4 * (fields + events)).astype(np.int64)
    return BaseHistory(owner, artifact.hex(), as_of_s, user_fields, rows, ts_s)


def history_owner(raw: bytes) -> str:
    """Id of the user that a base history is for, from its header. Nothing else is checked.

    Raises:
        CorruptRecordError: the bytes are not a base history.
    """
    if len(raw) < HEADER.size or not raw.startswith(MAGIC):
        raise CorruptRecordError(f"base history truncated or none: got {len(raw)} bytes")
    return raw[HEADER.size : HEADER.size + HEADER.unpack_from(raw)[3]].decode(errors="replace")


def is_history(raw: bytes, artifact_id: str, user_id: str) -> bool:
    """Whether `decode_history` would accept the bytes. Builds no arrays."""
    if len(raw) < HEADER.size + CHECKSUM.size:
        return False
    magic, codec, fields, user_size, events, artifact, _ = HEADER.unpack_from(raw)
    start = HEADER.size + user_size
    return (
        magic == MAGIC
        and codec == CODEC
        and len(raw) == history_bytes(user_size, fields, events)
        and artifact.hex() == artifact_id
        and raw[HEADER.size : start] == user_id.encode()
        and zlib.crc32(memoryview(raw)[:-4]) == CHECKSUM.unpack_from(raw, len(raw) - 4)[0]
    )
