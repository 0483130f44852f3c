"""The payload of a record: the row counts of the tensors that have one, then the stored rows of each tensor."""

import math
import struct
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from models.contract.errors import CorruptRecordError
from models.contract.state_spec import (
    Array,
    RecordDtype,
    StateSpec,
    TensorSpec,
    stored_rows,
    whole_rows,
)

COUNT_BYTES = 4
FP16_LARGEST = 65504.0
FP16_INFINITY = 0x7C00
"""Bits of +inf in fp16. Without the sign bit, those of every finite number are less, and those of every NaN more."""
FP16_WITHOUT_SIGN = 0x7FFF


def payload_bytes(spec: StateSpec, dtype: RecordDtype, rows: Sequence[int]) -> int:
    """Size of a payload.

    Args:
        spec: tensors of the state.
        dtype: dtype of the record.
        rows: number of stored rows of each tensor.
    """
    return _count_bytes(spec) + sum(_sizes(spec, dtype, rows))


def pack_state(state: Mapping[str, Array], spec: StateSpec, dtype: RecordDtype) -> bytes:
    """Pack a state.

    Raises:
        ValueError: a shape differs from the spec, or a value is not finite or cannot be represented in `dtype`.
    """
    for tensor in spec:
        shape = state[tensor.name].shape
        if shape != tensor.shape:
            raise ValueError(f"state {tensor.name!r}: got {shape}, expected {tensor.shape}")
    rows = stored_rows(state, spec)
    counts = [stored for tensor, stored in zip(spec, rows, strict=True) if tensor.has_row_count]
    packed = (
        _pack(tensor.part(state[tensor.name], stored), tensor, dtype)
        for tensor, stored in zip(spec, rows, strict=True)
    )
    return struct.pack(f"<{len(counts)}I", *counts) + b"".join(packed)


def unpack_state(
    payload: memoryview, spec: StateSpec, dtype: RecordDtype, *, has_row_counts: bool
) -> dict[str, Array]:
    """Unpack a state: whole tensors with memory of their own, of the sizes that the spec says.

    Args:
        payload: the bytes, of any origin.
        spec: tensors of the state.
        dtype: dtype of the record.
        has_row_counts: whether the payload starts with row counts; if not, every row is stored.

    Raises:
        CorruptRecordError: a row count is larger than the spec's number of rows, the length of the payload is not
            what spec and row counts say, or a number is not finite.
    """
    offset, rows, sizes = _layout(payload, spec, dtype, has_row_counts=has_row_counts)
    state = {}
    for tensor, stored, size in zip(spec, rows, sizes, strict=True):
        state[tensor.name] = _unpack(payload[offset : offset + size], tensor, stored, dtype)
        offset += size
    return state


def float_parts(
    payload: memoryview, spec: StateSpec, dtype: RecordDtype, *, has_row_counts: bool
) -> Iterator[tuple[int, memoryview]]:
    """The parts of a payload that hold floats, each with the bytes of one: 2 or 4. int8 steps and ids are no floats.

    Args:
        payload: the bytes, of any origin.
        spec: tensors of the state.
        dtype: dtype of the record.
        has_row_counts: whether the payload starts with row counts.

    Raises:
        CorruptRecordError: as `unpack_state`, but for the numbers.
    """
    offset, rows, sizes = _layout(payload, spec, dtype, has_row_counts=has_row_counts)
    for tensor, stored, size in zip(spec, rows, sizes, strict=True):
        if tensor.kind == "float":
            is_int8 = dtype == "int8" and len(tensor.shape) > 1
            used = 2 * stored * math.prod(tensor.shape[1:-1]) if is_int8 else size
            yield 4 if dtype == "fp32" else 2, payload[offset : offset + used]
        offset += size


def require_finite(floats: bytes, size: int) -> None:
    """Raise CorruptRecordError unless all numbers are finite.

    Args:
        floats: little-endian numbers.
        size: bytes of one: 2 or 4.
    """
    _finite(np.frombuffer(floats, f"<f{size}"), TensorSpec("any", ()))


def _layout(
    payload: memoryview, spec: StateSpec, dtype: RecordDtype, *, has_row_counts: bool
) -> tuple[int, list[int], list[int]]:
    """Where the first tensor starts, and the number of stored rows and of bytes of each."""
    rows = _read_rows(payload, spec) if has_row_counts else whole_rows(spec)
    offset = _count_bytes(spec) if has_row_counts else 0
    sizes = _sizes(spec, dtype, rows)
    if offset + sum(sizes) != len(payload):
        raise CorruptRecordError(
            f"payload of {len(payload)} bytes, the state spec says {offset + sum(sizes)}"
            + (f" with rows {rows}" if has_row_counts and offset else "")
        )
    return offset, rows, sizes


def _count_bytes(spec: StateSpec) -> int:
    return COUNT_BYTES * sum(tensor.has_row_count for tensor in spec)


def _sizes(spec: StateSpec, dtype: RecordDtype, rows: Sequence[int]) -> list[int]:
    return [tensor.stored_bytes(dtype, stored) for tensor, stored in zip(spec, rows, strict=True)]


def _pack(values: Array, tensor: TensorSpec, dtype: RecordDtype) -> bytes:
    """Bytes of the stored rows of a tensor."""
    if tensor.kind == "int32":
        return _to_int32(values, tensor).tobytes()
    if not np.isfinite(values).all():
        raise ValueError(
            f"state {tensor.name!r}: got a value that is not finite, expected finite values"
        )
    if dtype == "fp32":
        return _to_fp32(values, tensor).tobytes()
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


def _to_fp32(values: Array, tensor: TensorSpec) -> Array:
    largest = np.abs(values).max(initial=0)
    if largest > np.finfo(np.float32).max:
        raise ValueError(f"state {tensor.name!r}: got {largest:.4g}, too large for fp32")
    return values.astype("<f4")


def _to_fp16(values: Array, tensor: TensorSpec) -> Array:
    # An error, since clipping would give a user wrong scores without notice.
    largest = np.abs(values).max(initial=0)
    if largest > FP16_LARGEST:
        raise ValueError(
            f"state {tensor.name!r}: got {largest:.4g}, too large for fp16; choose fp32"
        )
    return values.astype("<f2")


def _read_rows(payload: memoryview, spec: StateSpec) -> list[int]:
    """Number of stored rows of each tensor, from the row counts at the start of the payload."""
    size = _count_bytes(spec)
    if len(payload) < size:
        raise CorruptRecordError(
            f"payload of {len(payload)} bytes, the row counts alone have {size}"
        )
    counts = iter(struct.unpack_from(f"<{size // COUNT_BYTES}I", payload))
    rows = [next(counts) if tensor.has_row_count else tensor.num_rows for tensor in spec]
    for tensor, stored in zip(spec, rows, strict=True):
        if stored > tensor.num_rows:
            raise CorruptRecordError(
                f"state {tensor.name!r}: {stored} rows, the state spec has {tensor.num_rows}"
            )
    return rows


def _unpack(packed: memoryview, tensor: TensorSpec, rows: int, dtype: RecordDtype) -> Array:
    """The whole tensor. Stored rows are converted into their place, without a copy between."""
    allocate = np.empty if rows == tensor.num_rows else np.zeros
    values: Array = allocate(tensor.shape, np.int32 if tensor.kind == "int32" else np.float32)
    part = tensor.part(values, rows)
    if tensor.kind == "int32":
        part[...] = np.frombuffer(packed, "<i4").reshape(part.shape)
    elif dtype == "fp32":
        part[...] = _finite(np.frombuffer(packed, "<f4"), tensor).reshape(part.shape)
    elif dtype == "fp16" or part.ndim < 2:
        part[...] = _finite(np.frombuffer(packed, "<f2"), tensor).reshape(part.shape)
    else:
        scales = math.prod(part.shape[:-1])
        scale = _finite(np.frombuffer(packed, "<f2", scales), tensor).astype(np.float32)
        steps = np.frombuffer(packed, "i1", offset=2 * scales).reshape(part.shape)
        np.multiply(steps, scale.reshape(*part.shape[:-1], 1), out=part)
    return values


def _finite(stored: Array, tensor: TensorSpec) -> Array:
    """Return the stored numbers; raises CorruptRecordError if one is not finite."""
    if stored.dtype == np.float16:
        # By their bits: isfinite takes ten times as long for fp16, and converting a signalling NaN warns.
        magnitudes = stored.view(np.uint16) & FP16_WITHOUT_SIGN
        is_finite = magnitudes.max(initial=0) < FP16_INFINITY
    else:
        is_finite = np.isfinite(stored).all()
    if not is_finite:
        raise CorruptRecordError(f"state {tensor.name!r}: a value that is not finite")
    return stored
