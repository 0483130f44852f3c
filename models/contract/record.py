"""The bytes of a cached user. numpy only, no cache client.

A record is one packed value per user, so that the service reads it in one round trip (a hash with a field per tensor
takes 4 to 5 times as long):

    magic 4 | codec 1 | dtype 1 | user id bytes 2 | recent 4 | payload 4 | artifact id 16 | as_of_s 8 |
    user id | recent item rows (int32) | tensors in the order of the state spec | crc32 4

Names and shapes of the tensors are not in the record: the artifact has them. All numbers are little-endian.
"""

import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from models.contract.errors import CorruptRecordError, ForeignRecordError

RecordDtype = Literal["fp32", "fp16", "int8"]
RECORD_DTYPES: tuple[RecordDtype, ...] = get_args(RecordDtype)
MAGIC = b"ABSR"
CODEC = 1
ARTIFACT_ID_BYTES = 16
HEADER = struct.Struct("<4sBBHII16sq")
ARTIFACT_AT = struct.calcsize("<4sBBHII")
CHECKSUM = struct.Struct("<I")
FP16_LARGEST = 65504.0
Array = NDArray[Any]


@dataclass(frozen=True)
class TensorSpec:
    """One tensor of a user's state.

    Attributes:
        name: name of the tensor and of an output of the encode graph; must differ from its inputs' names ("ages").
        shape: shape without the batch axis.
        kind: "float" numbers are stored in the record's dtype, "int32" ids and bits unchanged in every dtype.
    """

    name: str
    shape: tuple[int, ...]
    kind: Literal["float", "int32"] = "float"

    def stored_bytes(self, dtype: RecordDtype) -> int:
        """Bytes in a record. int8 has an fp16 scale per row; vectors stay fp16, since they are counts or totals."""
        size = int(np.prod(self.shape))
        if dtype == "fp32" or self.kind == "int32":
            return 4 * size
        if dtype == "fp16" or len(self.shape) < 2:
            return 2 * size
        return size + 2 * (size // self.shape[-1])


StateSpec = tuple[TensorSpec, ...]


@dataclass(frozen=True)
class UserRecord:
    """The state of one user.

    Attributes:
        user_id: raw id.
        as_of_s: epoch second up to which events are in the state.
        recent: catalogue rows of the latest events, newest last; used for requests that name none.
        state: tensor name -> float32 or int32 array, as the state spec says (no batch axis).
    """

    user_id: str
    as_of_s: int
    recent: NDArray[np.int32]
    state: Mapping[str, Array]


USER_ID_BYTES = 16
"""Assumed length of a user id where a size is computed without knowing the ids."""


def record_bytes(spec: StateSpec, dtype: RecordDtype, user_id_bytes: int, recent: int) -> int:
    """Size of a record in bytes.

    Args:
        spec: tensors of the state.
        dtype: dtype of the record.
        user_id_bytes: length of the user id in bytes.
        recent: number of latest events.
    """
    payload = sum(tensor.stored_bytes(dtype) for tensor in spec)
    return HEADER.size + user_id_bytes + 4 * recent + payload + CHECKSUM.size


def encode_record(
    record: UserRecord, spec: StateSpec, artifact_id: str, dtype: RecordDtype
) -> bytes:
    """Pack a record.

    Raises:
        ValueError: names or shapes differ from the spec, a value is not finite or cannot be represented in `dtype`, or
            the artifact id is malformed.
    """
    artifact = bytes.fromhex(artifact_id)
    if artifact.hex() != artifact_id or len(artifact) != ARTIFACT_ID_BYTES:
        raise ValueError(f"artifact id: got {artifact_id!r}, expected 32 lower-case hex digits")
    if record.state.keys() != {tensor.name for tensor in spec}:
        expected = [tensor.name for tensor in spec]
        raise ValueError(f"state: got tensors {list(record.state)}, expected {expected}")
    payload = b"".join(_pack(record.state[tensor.name], tensor, dtype) for tensor in spec)
    user = record.user_id.encode()
    recent = record.recent.astype("<i4").tobytes()
    dtype_code = RECORD_DTYPES.index(dtype)
    sizes = len(user), len(record.recent), len(payload)
    header = HEADER.pack(MAGIC, CODEC, dtype_code, *sizes, artifact, record.as_of_s)
    body = header + user + recent + payload
    return body + CHECKSUM.pack(zlib.crc32(body))


def decode_record(
    raw: bytes, spec: StateSpec, artifact_id: str, user_id: str | None = None
) -> UserRecord:
    """Unpack a record that the artifact `artifact_id` made, for the user `user_id` (None: for any user).

    Raises:
        CorruptRecordError: the bytes are truncated or damaged, of another codec, or not a record.
        ForeignRecordError: another artifact made the record, or it is for another user.
    """
    if len(raw) < HEADER.size + CHECKSUM.size:
        raise CorruptRecordError(f"truncated: got {len(raw)} bytes")
    magic, codec, dtype_code, user_size, num_recent, payload_size, artifact, as_of_s = (
        HEADER.unpack_from(raw)
    )
    if magic != MAGIC or codec != CODEC or dtype_code >= len(RECORD_DTYPES):
        raise CorruptRecordError(f"not a record of codec {CODEC}: it starts with {raw[:6]!r}")
    size = HEADER.size + user_size + 4 * num_recent + payload_size + CHECKSUM.size
    if len(raw) != size:
        raise CorruptRecordError(f"truncated: got {len(raw)} bytes, the header says {size}")
    if zlib.crc32(memoryview(raw)[:-4]) != CHECKSUM.unpack_from(raw, size - 4)[0]:
        raise CorruptRecordError("checksum does not match its content")
    if artifact.hex() != artifact_id:
        raise ForeignRecordError("artifact", artifact.hex(), artifact_id)
    start = HEADER.size + user_size
    owner = _decode_owner(raw[HEADER.size : start])
    if user_id is not None and owner != user_id:
        raise ForeignRecordError("user", owner, user_id)
    recent = np.frombuffer(raw, "<i4", num_recent, start)
    state = _unpack_all(raw, start + 4 * num_recent, payload_size, spec, RECORD_DTYPES[dtype_code])
    return UserRecord(owner, as_of_s, recent, state)


def record_artifact(raw: bytes) -> str | None:
    """Id of the artifact that made a record, from its header, which is not checked; None if it is not a record."""
    if len(raw) < HEADER.size or not raw.startswith(MAGIC):
        return None
    return raw[ARTIFACT_AT : ARTIFACT_AT + ARTIFACT_ID_BYTES].hex()


def _decode_owner(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise CorruptRecordError(f"user id is not UTF-8: {raw!r}") from error


def _pack(values: Array, tensor: TensorSpec, dtype: RecordDtype) -> bytes:
    if values.shape != tensor.shape:
        raise ValueError(f"state {tensor.name!r}: got {values.shape}, expected {tensor.shape}")
    if tensor.kind == "int32":
        return _to_int32(values, tensor).tobytes()
    if not np.isfinite(values).all():
        raise ValueError(
            f"state {tensor.name!r}: got a value that is not finite, expected finite values"
        )
    if dtype == "fp32":
        return values.astype("<f4").tobytes()
    if dtype == "fp16" or values.ndim < 2:
        return _to_fp16(values, tensor).tobytes()
    exact = np.abs(values).max(-1, keepdims=True, initial=0) / 127
    scale = _to_fp16(exact, tensor)
    # Divide by the scale that decoding multiplies with, rounded up to fp16 so that the largest value still fits.
    scale = np.where(scale < exact, np.nextafter(scale, np.float16(np.inf)), scale).astype("<f2")
    steps = np.where(scale > 0, scale, 1).astype(np.float32)
    return scale.tobytes() + np.rint(values / steps).astype("i1").tobytes()


def _to_int32(values: Array, tensor: TensorSpec) -> Array:
    if not np.issubdtype(values.dtype, np.integer):
        raise ValueError(f"state {tensor.name!r}: got {values.dtype}, expected int32")
    if not np.array_equal(values, values.astype(np.int32)):
        raise ValueError(f"state {tensor.name!r}: got {np.abs(values).max()}, too large for int32")
    return values.astype("<i4")


def _to_fp16(values: Array, tensor: TensorSpec) -> Array:
    # An error, since clipping would give a user wrong scores without notice.
    largest = np.abs(values).max(initial=0)
    if largest > FP16_LARGEST:
        raise ValueError(
            f"state {tensor.name!r}: got {largest:.4g}, too large for fp16; choose fp32"
        )
    return values.astype("<f2")


def _unpack_all(
    raw: bytes, offset: int, size: int, spec: StateSpec, dtype: RecordDtype
) -> dict[str, Array]:
    expected = sum(tensor.stored_bytes(dtype) for tensor in spec)
    if expected != size:
        raise CorruptRecordError(f"payload of {size} bytes, the state spec says {expected}")
    state = {}
    for tensor in spec:
        state[tensor.name] = _unpack(raw, offset, tensor, dtype)
        offset += tensor.stored_bytes(dtype)
    return state


def _unpack(raw: bytes, offset: int, tensor: TensorSpec, dtype: RecordDtype) -> Array:
    size = int(np.prod(tensor.shape))
    if tensor.kind == "int32":
        return np.frombuffer(raw, "<i4", size, offset).reshape(tensor.shape)
    if dtype == "fp32":
        return np.frombuffer(raw, "<f4", size, offset).reshape(tensor.shape)
    if dtype == "fp16" or len(tensor.shape) < 2:
        return np.frombuffer(raw, "<f2", size, offset).astype(np.float32).reshape(tensor.shape)
    rows = size // tensor.shape[-1]
    scale = np.frombuffer(raw, "<f2", rows, offset).astype(np.float32)
    quantised = np.frombuffer(raw, "i1", size, offset + 2 * rows).reshape(rows, -1)
    return (quantised * scale[:, None]).astype(np.float32).reshape(tensor.shape)


def stack_states(states: Sequence[Mapping[str, Array]], spec: StateSpec) -> dict[str, Array]:
    """Stack the states of single users along a new batch axis."""
    return {tensor.name: np.stack([state[tensor.name] for state in states]) for tensor in spec}
