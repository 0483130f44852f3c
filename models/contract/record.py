"""The bytes of a cached user. numpy only, no cache client.

A record is one packed value per user, so that the service reads it in one round trip (a hash with a field per tensor
takes 4 to 5 times as long):

    magic 4 | codec 1 | dtype 1 | user id bytes 2 | recent 4 | payload 4 | artifact id 16 | as_of_s 8 |
    user id | recent item rows (int32) | row counts (uint32) | tensors in the order of the state spec | mark | crc32 4

Names and shapes of the tensors are not in the record: the artifact has them. Where a user fills only the first or only
the last rows of a tensor (`TensorSpec.filled`), the record holds these rows alone, and their number as a row count; the
decoder sets the other rows to 0. A record of codec 1, made by an older builder, has no row counts and holds every row.
The mark (version 8 | aged_from_s 8 | folds 2 | digest 8) is in codec 3 alone, which `absorb follow` writes; a publish
writes codec 2 or 1, which count as version 0. All numbers are little-endian.
"""

import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.contract.age import NUM_AGES
from models.contract.epoch import END_OF_TIME_S
from models.contract.errors import CorruptRecordError, ForeignRecordError
from models.contract.state_spec import RECORD_DTYPES, Array, RecordDtype, StateSpec, whole_rows
from models.contract.tensor_bytes import pack_state, payload_bytes, unpack_state

MAGIC = b"ABSR"
CODEC = 2
WHOLE_CODEC = 1
"""Codec of older records: every row is stored, without row counts. Read, but not written any more."""
MARKED_CODEC = 3
"""Codec of records that `absorb follow` writes: codec 2 and a mark."""
CODECS = (WHOLE_CODEC, CODEC, MARKED_CODEC)
ARTIFACT_ID_BYTES = 16
HEADER = struct.Struct("<4sBBHII16sq")
ARTIFACT_AT = struct.calcsize("<4sBBHII")
CHECKSUM = struct.Struct("<I")
MARK = struct.Struct("<QqHQ")
CODEC_AT = 4


@dataclass(frozen=True)
class Mark:
    """What a record that live events were folded into says beside its state.

    Attributes:
        version: of the user's live log (`models/live/log.py`) that the state holds.
        aged_from_s: epoch second from which the ages in the state are measured.
        folds: additions to the state since it was last encoded as a whole; 0 for one that is never added to.
        digest: of the window of events that the state was made of, for a state that is added to; else 0.
    """

    version: int
    aged_from_s: int
    folds: int = 0
    digest: int = 0


@dataclass(frozen=True)
class UserRecord:
    """The state of one user.

    Attributes:
        user_id: raw id.
        as_of_s: epoch second up to which events are in the state, from 1970 to before 2100.
        recent: catalogue rows of the latest events, newest last; used for requests that name none.
        state: tensor name -> float32 or int32 array, as the state spec says (no batch axis).
        mark: of a record with live events; None for one that a publish wrote.
    """

    user_id: str
    as_of_s: int
    recent: NDArray[np.int32]
    state: Mapping[str, Array]
    mark: Mark | None = None

    @property
    def version(self) -> int:
        """Version of the live log that the state holds; 0 for a record that a publish wrote."""
        return 0 if self.mark is None else self.mark.version


USER_ID_BYTES = 16
"""Assumed length of a user id where a size is computed without knowing the ids."""


def record_bytes(
    spec: StateSpec,
    dtype: RecordDtype,
    user_id_bytes: int,
    recent: int,
    rows: Sequence[int] | None = None,
) -> int:
    """Size of a record in bytes.

    Args:
        spec: tensors of the state.
        dtype: dtype of the record.
        user_id_bytes: length of the user id in bytes.
        recent: number of latest events.
        rows: number of stored rows of each tensor (`stored_rows`); None: all, which gives the size of the largest
            record.
    """
    payload = payload_bytes(spec, dtype, whole_rows(spec) if rows is None else rows)
    return HEADER.size + user_id_bytes + 4 * recent + payload + CHECKSUM.size


def encode_record(
    record: UserRecord, spec: StateSpec, artifact_id: str, dtype: RecordDtype
) -> bytes:
    """Pack a record.

    Raises:
        ValueError: names or shapes differ from the spec, a value is not finite or cannot be represented in `dtype`,
            `as_of_s` or the mark's `aged_from_s` is no epoch second, or the artifact id is malformed.
    """
    _check_moment(record.as_of_s, ValueError)
    artifact = bytes.fromhex(artifact_id)
    if artifact.hex() != artifact_id or len(artifact) != ARTIFACT_ID_BYTES:
        raise ValueError(f"artifact id: got {artifact_id!r}, expected 32 lower-case hex digits")
    if record.state.keys() != {tensor.name for tensor in spec}:
        expected = [tensor.name for tensor in spec]
        raise ValueError(f"state: got tensors {list(record.state)}, expected {expected}")
    payload = pack_state(record.state, spec, dtype)
    user = record.user_id.encode()
    recent = record.recent.astype("<i4").tobytes()
    dtype_code = RECORD_DTYPES.index(dtype)
    sizes = len(user), len(record.recent), len(payload)
    # Without row counts both codecs have one layout, and services that know only the older one can read it.
    codec = CODEC if any(tensor.has_row_count for tensor in spec) else WHOLE_CODEC
    mark = b""
    if record.mark is not None:
        codec, mark = MARKED_CODEC, _pack_mark(record.mark)
    header = HEADER.pack(MAGIC, codec, dtype_code, *sizes, artifact, record.as_of_s)
    body = header + user + recent + payload + mark
    return body + CHECKSUM.pack(zlib.crc32(body))


def decode_record(
    raw: bytes,
    spec: StateSpec,
    artifact_id: str,
    user_id: str | None = None,
    max_recent: int | None = None,
) -> UserRecord:
    """Unpack a record.

    The arrays of the state are whole tensors with memory of their own; `recent` is a view of `raw`.

    Args:
        raw: bytes of any origin.
        spec: tensors of the state.
        artifact_id: the artifact that must have made the record.
        user_id: the user that the record must be for; None: any.
        max_recent: most rows of latest items, as the schema says; None: any number.

    Raises:
        CorruptRecordError: the bytes are truncated or damaged, of an unknown codec, do not fit the spec or
            `max_recent`, hold a number that is not finite or an `as_of_s` that is no epoch second, or are not a record.
        ForeignRecordError: another artifact made the record, or it is for another user.
    """
    if len(raw) < HEADER.size + CHECKSUM.size:
        raise CorruptRecordError(f"truncated: got {len(raw)} bytes")
    magic, codec, dtype_code, user_size, num_recent, payload_size, artifact, as_of_s = (
        HEADER.unpack_from(raw)
    )
    if magic != MAGIC or codec not in CODECS or dtype_code >= len(RECORD_DTYPES):
        raise CorruptRecordError(f"not a record of codec 1, 2 or 3: it starts with {raw[:6]!r}")
    if max_recent is not None and num_recent > max_recent:
        raise CorruptRecordError(f"recent: {num_recent} rows, expected at most {max_recent}")
    mark_size = MARK.size if codec == MARKED_CODEC else 0
    size = HEADER.size + user_size + 4 * num_recent + payload_size + mark_size + CHECKSUM.size
    if len(raw) != size:
        raise CorruptRecordError(f"truncated: got {len(raw)} bytes, the header says {size}")
    if zlib.crc32(memoryview(raw)[:-4]) != CHECKSUM.unpack_from(raw, size - 4)[0]:
        raise CorruptRecordError("checksum does not match its content")
    _check_moment(as_of_s, CorruptRecordError)
    if artifact.hex() != artifact_id:
        raise ForeignRecordError("artifact", artifact.hex(), artifact_id)
    start = HEADER.size + user_size
    owner = _decode_owner(raw[HEADER.size : start])
    if user_id is not None and owner != user_id:
        raise ForeignRecordError("user", owner, user_id)
    recent = np.frombuffer(raw, "<i4", num_recent, start)
    end = size - CHECKSUM.size - mark_size
    payload = memoryview(raw)[start + 4 * num_recent : end]
    dtype = RECORD_DTYPES[dtype_code]
    state = unpack_state(payload, spec, dtype, has_row_counts=codec != WHOLE_CODEC)
    mark = _read_mark(raw, end) if mark_size else None
    return UserRecord(owner, as_of_s, recent, state, mark)


def check_ids(state: Mapping[str, Array], spec: StateSpec, num_items: int) -> None:
    """Check the int32 numbers that stand for something, as `TensorSpec.ids` says.

    A graph takes a negative row for one from the end of the catalogue, without notice.

    Args:
        state: tensors of a decoded record.
        spec: tensors of the state.
        num_items: rows of the catalogue.

    Raises:
        CorruptRecordError: a row is beyond the catalogue, or an age beyond the last bucket.
    """
    limits = {"rows": num_items, "ages": NUM_AGES, "rows and ages": num_items * NUM_AGES}
    for tensor in spec:
        if tensor.ids == "any":
            continue
        limit = limits[tensor.ids]
        # Read as unsigned, negative numbers are beyond every limit.
        if state[tensor.name].view(np.uint32).max(initial=0) >= limit:
            raise CorruptRecordError(
                f"state {tensor.name!r}: {tensor.ids} beyond the first {limit}"
            )


def record_artifact(raw: bytes) -> str | None:
    """Id of the artifact that made a record, from its header, which is not checked; None if it is not a record."""
    if len(raw) < HEADER.size or not raw.startswith(MAGIC):
        return None
    return raw[ARTIFACT_AT : ARTIFACT_AT + ARTIFACT_ID_BYTES].hex()


def record_owner(raw: bytes) -> str:
    """Id of the user that a record is for, from its header. Nothing else is checked.

    Raises:
        CorruptRecordError: the bytes are not a record, or end before the id does.
    """
    if len(raw) < HEADER.size or not raw.startswith(MAGIC):
        raise CorruptRecordError(f"truncated or not a record: got {len(raw)} bytes")
    return _decode_owner(raw[HEADER.size : HEADER.size + HEADER.unpack_from(raw)[3]])


def record_version(raw: bytes) -> int:
    """Version of the live log that a record holds, from its mark, which is not checked; 0 if it has none."""
    if len(raw) < HEADER.size + MARK.size + CHECKSUM.size or raw[CODEC_AT] != MARKED_CODEC:
        return 0
    return int(MARK.unpack_from(raw, len(raw) - CHECKSUM.size - MARK.size)[0])


def _pack_mark(mark: Mark) -> bytes:
    _check_moment(mark.aged_from_s, ValueError)
    try:
        return MARK.pack(mark.version, mark.aged_from_s, mark.folds, mark.digest)
    except struct.error as error:
        raise ValueError(
            f"mark: got {mark}, expected version and digest below 2^64, and folds below 65,536"
        ) from error


def _read_mark(raw: bytes, start: int) -> Mark:
    mark = Mark(*MARK.unpack_from(raw, start))
    _check_moment(mark.aged_from_s, CorruptRecordError)
    return mark


def _decode_owner(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise CorruptRecordError(f"user id is not UTF-8: {raw!r}") from error


def _check_moment(as_of_s: int, error: Callable[[str], Exception]) -> None:
    if not 0 <= as_of_s <= END_OF_TIME_S:
        raise error(f"as_of_s: got {as_of_s}, expected an epoch second before the year 2100")
