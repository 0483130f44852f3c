"""Converts tensors from and to bytes and JSON values, the two encodings of the protocol."""

import math
from collections.abc import Sequence
from itertools import chain
from struct import Struct
from typing import cast

import numpy as np

from models.contract.errors import RequestError, Unquoted, shown
from service.v2.messages import BYTES, DTYPES, Data, InferTensor, Parameters

LENGTH = Struct("<I")
MAX_SHOWN = 80
"""Characters of a wrong value that an error repeats."""
MAX_DIMENSIONS = 8
MAX_SIZE = 1 << 40
"""Maximum size of one dimension: more elements than any body has, and products of sizes can still be printed."""
FEW_BYTES = 256
"""Up to this many bytes a loop from string to string is faster than numpy on all of them."""
SHORT_LENGTH_TAIL = b"\0\0\0"
"""The last three bytes of a little-endian length below 256."""
JSON_TYPES: dict[str, frozenset[type]] = {
    "b": frozenset({bool}),
    "u": frozenset({int}),
    "i": frozenset({int}),
    "f": frozenset({int, float}),
}
"""Kind of a numpy dtype -> types that its elements may have in JSON."""


def short(value: object) -> object:
    """Shorten a wrong value for an error."""
    text = shown(value)
    return value if len(text) <= MAX_SHOWN else Unquoted(f"{text[:MAX_SHOWN]}…")


def shape_of(field: str, sizes: object) -> tuple[int, ...]:
    """Check a tensor's shape.

    Raises:
        RequestError: `sizes` is not a list of at most `MAX_DIMENSIONS` integers from 0 to `MAX_SIZE`.
    """
    if (
        not isinstance(sizes, list)
        or len(sizes) > MAX_DIMENSIONS
        or any(type(size) is not int or not 0 <= size <= MAX_SIZE for size in sizes)
    ):
        expected = f"a list of at most {MAX_DIMENSIONS} numbers of elements"
        raise RequestError(field, short(sizes), expected)
    return tuple(sizes)


def tensor_from_bytes(
    name: str, datatype: str, shape: tuple[int, ...], raw: bytes, parameters: Parameters
) -> InferTensor:
    """Decode a tensor: little-endian, row-major; BYTES elements as 4-byte length and bytes.

    Raises:
        RequestError: the datatype does not exist, or the bytes do not match datatype and shape.
    """
    field = f"inputs[{name}]"
    count = math.prod(shape)
    if datatype == BYTES:
        return InferTensor(name, datatype, shape, _texts(field, raw, count), parameters)
    dtype = np.dtype(dtype_of(field, datatype))
    if len(raw) != count * dtype.itemsize:
        expected = f"{count * dtype.itemsize} for {datatype} of shape {list(shape)}"
        raise RequestError(f"{field}: number of bytes", len(raw), expected)
    return InferTensor(name, datatype, shape, np.frombuffer(raw, dtype), parameters)


def tensor_to_bytes(tensor: InferTensor) -> bytes:
    """Encode a tensor: the inverse of `tensor_from_bytes`."""
    if tensor.datatype != BYTES:
        return np.asarray(tensor.data, DTYPES[tensor.datatype]).tobytes()
    elements = [text.encode() for text in cast(Sequence[str], tensor.data)]
    return b"".join(
        chain.from_iterable((LENGTH.pack(len(element)), element) for element in elements)
    )


def dtype_of(field: str, datatype: str) -> str:
    """Name of a datatype's numpy dtype.

    Raises:
        RequestError: the datatype does not exist, or is BYTES.
    """
    if datatype not in DTYPES:
        known = ", ".join([*DTYPES, BYTES])
        raise RequestError(f"{field}.datatype", short(datatype), f"one of {known}")
    return DTYPES[datatype]


def _texts(field: str, raw: bytes, count: int) -> list[str]:
    if len(raw) < count * LENGTH.size:
        expected = (
            f"at least {count * LENGTH.size}: the lengths of the {count} strings of its shape"
        )
        raise RequestError(f"{field}: number of bytes", len(raw), expected)
    short_texts = _short_texts(raw) if len(raw) > FEW_BYTES else None
    texts = _any_texts(field, raw, count) if short_texts is None else short_texts
    if len(texts) != count:
        got = Unquoted(f"more than {count}") if len(texts) > count else len(texts)
        raise RequestError(f"{field}: number of elements", got, f"{count} by its shape")
    return texts


def _short_texts(raw: bytes) -> list[str] | None:
    """Decode all strings at once; None if one is empty, contains a zero byte, or has 256 bytes or more.

    The length of any other string is one byte and three zeros, and zeros occur nowhere else. So all lengths are found
    at once, and then checked to be where a loop from length to length would find them. The first byte of each length
    becomes a separator, at which the text is split.
    """
    octets = np.frombuffer(raw, np.uint8)
    is_zero = octets == 0
    zeros = np.flatnonzero(is_zero[:-2] & is_zero[1:-1] & is_zero[2:])
    if not len(zeros) or zeros[0] != 1:
        return None
    ends = zeros + len(SHORT_LENGTH_TAIL) + octets[zeros - 1]
    if ends[-1] != len(raw) or not np.array_equal(ends[:-1] + 1, zeros[1:]):
        return None
    joined = np.frombuffer(bytearray(raw.replace(SHORT_LENGTH_TAIL, b"")), np.uint8)
    joined[zeros - 1 - len(SHORT_LENGTH_TAIL) * np.arange(len(zeros))] = 0
    try:
        texts = joined[1:].tobytes().decode().split("\0")
    except UnicodeDecodeError:
        return None
    return texts if len(texts) == len(zeros) else None


def _any_texts(field: str, raw: bytes, count: int) -> list[str]:
    """Decode the strings one by one, up to one more than `count`."""
    texts: list[str] = []
    at, end = 0, len(raw)
    while at < end and len(texts) <= count:
        start = at + LENGTH.size
        at = start + LENGTH.unpack_from(raw, at)[0] if start <= end else end + 1
        if at > end:
            raise RequestError(
                field, Unquoted("too few bytes"), "each string after its 4-byte length"
            )
        try:
            texts.append(raw[start:at].decode())
        except UnicodeDecodeError as error:
            where = f"{field}[{len(texts)}]"
            raise RequestError(where, short(raw[start:at]), "UTF-8 text") from error
    return texts


def tensor_from_json(
    name: str, datatype: str, shape: tuple[int, ...], value: object, parameters: Parameters
) -> InferTensor:
    """Read a tensor from JSON `data`, flat or nested.

    Raises:
        RequestError: the datatype does not exist, or the data does not match datatype and shape.
    """
    field = f"inputs[{name}].data"
    flat = _flat(field, value, shape)
    count = math.prod(shape)
    if len(flat) != count:
        raise RequestError(field, Unquoted(f"{len(flat)} element(s)"), f"{count} by its shape")
    return InferTensor(name, datatype, shape, _typed(name, datatype, flat), parameters)


def _flat(field: str, value: object, shape: tuple[int, ...]) -> list[object]:
    if not isinstance(value, list):
        raise RequestError(field, short(value), "a list")
    flat, depth = value, 0
    while flat and isinstance(flat[0], list):
        depth += 1
        inner = shape[depth] if depth < len(shape) else None
        if len(flat) != math.prod(shape[:depth]) or any(
            not isinstance(row, list) or len(row) != inner for row in flat
        ):
            raise RequestError(field, short(value), f"a list nested as the shape {list(shape)}")
        flat = list(chain.from_iterable(flat))
    return flat


def _typed(name: str, datatype: str, flat: list[object]) -> Data:
    field = f"inputs[{name}]"
    dtype = np.dtype(object) if datatype == BYTES else np.dtype(dtype_of(field, datatype))
    allowed = JSON_TYPES.get(dtype.kind, frozenset({str}))
    if not set(map(type, flat)) <= allowed:
        at, bad = next((at, value) for at, value in enumerate(flat) if type(value) not in allowed)
        raise RequestError(f"{field}.data[{at}]", short(bad), f"an element of {datatype}")
    if datatype == BYTES:
        return cast(list[str], flat)
    try:
        return np.array(flat, dtype)
    except OverflowError as error:
        raise RequestError(f"{field}.data", short(flat), f"elements of {datatype}") from error


def tensor_to_json(tensor: InferTensor) -> dict[str, object]:
    """Make the JSON object of a tensor; arrays stay arrays, for an encoder that knows numpy."""
    fields: dict[str, object] = {
        "name": tensor.name,
        "datatype": tensor.datatype,
        "shape": tensor.shape,
        "data": tensor.data,
    }
    return {**fields, "parameters": tensor.parameters} if tensor.parameters else fields
