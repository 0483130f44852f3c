"""The wire contract: key, bytes and generation pointer of cached users. Client-free, numpy only.

A record is one packed value per user, read in one round trip (field-by-field hashes cost 4 to 5 times as much):

    magic 4 | codec 1 | dtype 1 | user id bytes 2 | recent 4 | payload 4 | artifact id 16 | as_of_s 8 |
    user id | recent item rows (int32) | tensors in the order of the state spec | crc32 4

The tensors' names and shapes are not repeated in every record: they are the artifact's, whose id is. All little-endian.
"""

import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from models.contract.errors import CorruptRecordError, ForeignRecordError, GenerationError

RecordDtype = Literal["fp32", "fp16", "int8"]
RECORD_DTYPES: tuple[RecordDtype, ...] = get_args(RecordDtype)
MAGIC = b"ABSR"
CODEC = 1
ARTIFACT_ID_BYTES = 16
HEADER = struct.Struct("<4sBBHII16sq")
ARTIFACT_AT = struct.calcsize("<4sBBHII")
CHECKSUM = struct.Struct("<I")
FP16_LARGEST = 65504.0
IN_PLACE = ("slot", "over")
Array = NDArray[Any]


@dataclass(frozen=True)
class TensorSpec:
    """One tensor of a user's state.

    Attributes:
        name: of the tensor, and of an output of the encode graph: it may not be that of an input too ("ages").
        shape: without the batch axis.
        kind: "float" numbers are stored in the record's dtype; "int32" ids and bits are stored as they are in each.
    """

    name: str
    shape: tuple[int, ...]
    kind: Literal["float", "int32"] = "float"

    def stored_bytes(self, dtype: RecordDtype) -> int:
        """Bytes in a record. int8 keeps one fp16 scale per row; vectors stay fp16: they are counts or totals."""
        size = int(np.prod(self.shape))
        if dtype == "fp32" or self.kind == "int32":
            return 4 * size
        if dtype == "fp16" or len(self.shape) < 2:
            return 2 * size
        return size + 2 * (size // self.shape[-1])


StateSpec = tuple[TensorSpec, ...]


@dataclass(frozen=True)
class UserRecord:
    """One user's state, whose it is and as of when.

    Attributes:
        user_id: raw id.
        as_of_s: epoch second up to which events are in the state.
        recent: catalogue rows of the latest events, newest last: used when a request names none.
        state: tensor name -> float32 or int32 array, as the state spec says (no batch axis).
    """

    user_id: str
    as_of_s: int
    recent: NDArray[np.int32]
    state: Mapping[str, Array]


USER_ID_BYTES = 16
"""Length of a user's id, where a size is computed without knowing the ids."""


def record_bytes(spec: StateSpec, dtype: RecordDtype, user_id_bytes: int, recent: int) -> int:
    """Size of a record in bytes."""
    payload = sum(tensor.stored_bytes(dtype) for tensor in spec)
    return HEADER.size + user_id_bytes + 4 * recent + payload + CHECKSUM.size


def encode_record(
    record: UserRecord, spec: StateSpec, artifact_id: str, dtype: RecordDtype
) -> bytes:
    """Pack a record.

    Raises:
        ValueError: the state does not have the spec's names and shapes, or holds a value that is not finite or not
            representable in `dtype`; the artifact id is none.
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
    header = HEADER.pack(
        MAGIC, CODEC, RECORD_DTYPES.index(dtype), len(user), len(record.recent), len(payload),
        artifact, record.as_of_s,
    )  # fmt: skip
    body = header + user + recent + payload
    return body + CHECKSUM.pack(zlib.crc32(body))


def decode_record(
    raw: bytes, spec: StateSpec, artifact_id: str, user_id: str | None = None
) -> UserRecord:
    """Unpack a record, refusing anything that `artifact_id` did not write for `user_id`.

    Raises:
        CorruptRecordError: truncated, bit-flipped, of another codec, or not a record.
        ForeignRecordError: of another artifact, or of another user.
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
    """Id of the artifact that made a record, by its header alone, unchecked; None if it has none."""
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
        raise ValueError(f"state {tensor.name!r} holds a value that is not finite")
    if dtype == "fp32":
        return values.astype("<f4").tobytes()
    if dtype == "fp16" or values.ndim < 2:
        return _to_fp16(values, tensor).tobytes()
    exact = np.abs(values).max(-1, keepdims=True, initial=0) / 127
    scale = _to_fp16(exact, tensor)
    # Divided by what decoding multiplies by: the rounded scale, rounded up so that the largest value still fits.
    scale = np.where(scale < exact, np.nextafter(scale, np.float16(np.inf)), scale).astype("<f2")
    steps = np.where(scale > 0, scale, 1).astype(np.float32)
    return scale.tobytes() + np.rint(values / steps).astype("i1").tobytes()


def _to_int32(values: Array, tensor: TensorSpec) -> Array:
    if not np.issubdtype(values.dtype, np.integer):
        raise ValueError(f"state {tensor.name!r}: got {values.dtype}, expected int32")
    if not np.array_equal(values, values.astype(np.int32)):
        raise ValueError(
            f"state {tensor.name!r}: holds {np.abs(values).max()}, too large for int32"
        )
    return values.astype("<i4")


def _to_fp16(values: Array, tensor: TensorSpec) -> Array:
    # Saturating would score a user wrongly without a word.
    largest = np.abs(values).max(initial=0)
    if largest > FP16_LARGEST:
        raise ValueError(
            f"state {tensor.name!r} holds {largest:.4g}, too large for fp16; choose fp32"
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


@dataclass(frozen=True)
class Overwritten:
    """A generation whose records are being overwritten in place, and the artifact that alone may score them."""

    name: str
    artifact_id: str


@dataclass(frozen=True)
class Generation:
    """One published build of one model.

    Attributes:
        model: name it is served under.
        name: unique, sorts by time: 20261122T031500Z-<6 hex>.
        artifact_id: content hash of the artifact that made, and alone may score, its records.
        num_users: records written.
        as_of_s: epoch second up to which events are in the states.
        created_s: epoch second of the publish.
        dtype: of the records.
        slot: name of the generation whose keys it has, having been written over it in place; empty: keys of its own.
        over: while it is being written in place, the generations whose records may still lie under its keys, newest
            first. Each record is scored by the artifact that made it.
    """

    model: str
    name: str
    artifact_id: str
    num_users: int
    as_of_s: int
    created_s: int
    dtype: RecordDtype
    slot: str = ""
    over: tuple[Overwritten, ...] = ()

    @property
    def place(self) -> str:
        """The part of its keys that other generations' have not, unless they were written over in place."""
        return self.slot or self.name

    def key(self, user_id: str) -> str:
        """Cache key of one user's record."""
        return f"absorb:{self.model}:{self.place}:{user_id}"

    def key_pattern(self) -> str:
        """Glob that matches every record under this generation's keys and nothing else."""
        return f"absorb:{self.model}:{self.place}:*"

    def to_dict(self) -> dict[str, Any]:
        """As JSON's types. What a publish with keys of its own leaves unset is left out: older services read it."""
        fields = asdict(self)
        return {name: value for name, value in fields.items() if value or name not in IN_PLACE}


@dataclass(frozen=True)
class Pointer:
    """What a model's pointer key holds: the generation that serves and the one to roll back to."""

    current: Generation
    previous: Generation | None

    def to_bytes(self) -> bytes:
        """As JSON."""
        previous = None if self.previous is None else self.previous.to_dict()
        return json.dumps({"current": self.current.to_dict(), "previous": previous}).encode()

    @classmethod
    def from_bytes(cls, raw: bytes, key: str) -> "Pointer":
        """Inverse of `to_bytes`.

        Raises:
            GenerationError: the bytes are no pointer.
        """
        try:
            fields = json.loads(raw)
            current, previous = fields["current"], fields["previous"]
            return cls(
                _read_generation(current), None if previous is None else _read_generation(previous)
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise GenerationError(key, f"cannot be read: {error!r}") from error


def _read_generation(fields: dict[str, Any]) -> Generation:
    over = tuple(Overwritten(**one) for one in fields.get("over", ()))
    generation = Generation(**{**fields, "over": over})
    texts = {name: fields.get(name, "") for name in ("model", "name", "artifact_id", "slot")}
    for name, value in [*texts.items(), *(pair for one in over for pair in asdict(one).items())]:
        if not isinstance(value, str):
            raise TypeError(f"{name}: got {value!r}, expected a string")
    for name in ("num_users", "as_of_s", "created_s"):
        if type(fields[name]) is not int:
            raise TypeError(f"{name}: got {fields[name]!r}, expected an integer")
    if generation.dtype not in RECORD_DTYPES:
        raise ValueError(f"dtype: got {generation.dtype!r}, expected one of {RECORD_DTYPES}")
    return generation


# The braces put every control key in one Redis Cluster slot, so one transaction may touch them together.
MODELS_KEY = "absorb:{control}:models"
"""Set of the names of all published models."""
SERVICES_KEY = "absorb:{control}:services"
"""Set of the names of services, living or dead: see `presence_key`."""


def pointer_key(model: str) -> str:
    """Key of a model's generation pointer."""
    return f"absorb:{{control}}:pointer:{model}"


def presence_key(service: str) -> str:
    """Key under which a living service says which generations it has loaded."""
    return f"absorb:{{control}}:service:{service}"


def read_presence(raw: bytes) -> dict[str, str | None]:
    """Model -> generation loaded, from what lies under a `presence_key`; nothing if it cannot be read."""
    try:
        loaded = json.loads(raw)
    except ValueError:
        return {}
    return loaded if isinstance(loaded, dict) else {}


def lock_key(model: str) -> str:
    """Key of the lock that a publishing builder holds."""
    return f"absorb:{{control}}:lock:{model}"


def stack_states(states: Sequence[Mapping[str, Array]], spec: StateSpec) -> dict[str, Array]:
    """Join single users' states along a new batch axis."""
    return {tensor.name: np.stack([state[tensor.name] for state in states]) for tensor in spec}
