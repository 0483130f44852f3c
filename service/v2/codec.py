"""Tensors <-> bytes and JSON values, as the protocol's two packings say. Whatever is wrong is a RequestError."""

import math
from collections.abc import Sequence
from itertools import chain
from struct import Struct
from typing import cast

import numpy as np

from models.contract.errors import RequestError, shown
from service.v2.messages import BYTES, DTYPES, Data, InferTensor, Parameters

LENGTH = Struct("<I")
MAX_SHOWN = 80
"""Characters of a bad value that an error repeats."""
MAX_DIMENSIONS = 8
MAX_SIZE = 1 << 40
"""Of one dimension: more elements than any body has, and a product of all sizes that can still be printed."""
FEW_BYTES = 256
"""Up to here a walk from string to string is faster than to look at all of them at once."""
SHORT_LENGTH_TAIL = b"\0\0\0"
"""What a length below 256 ends with."""
JSON_TYPES: dict[str, frozenset[type]] = {
    "b": frozenset({bool}),
    "u": frozenset({int}),
    "i": frozenset({int}),
    "f": frozenset({int, float}),
}
"""Kind of a numpy dtype -> what its elements may be in JSON."""


class _Words(str):
    """Shown in an error as it is, without quotes."""

    __repr__ = str.__str__


def short(value: object) -> object:
    """What an error shows of a bad value."""
    text = shown(value)
    return value if len(text) <= MAX_SHOWN else _Words(f"{text[:MAX_SHOWN]}…")


def shape_of(field: str, sizes: object) -> tuple[int, ...]:
    """A tensor's shape as it was sent.

    Raises:
        RequestError: it is no list of at most `MAX_DIMENSIONS` sizes from 0 to `MAX_SIZE`.
    """
    if (
        not isinstance(sizes, list)
        or len(sizes) > MAX_DIMENSIONS
        or any(type(one) is not int or not 0 <= one <= MAX_SIZE for one in sizes)
    ):
        expected = f"a list of at most {MAX_DIMENSIONS} numbers of elements"
        raise RequestError(field, short(sizes), expected)
    return tuple(sizes)


def tensor_from_bytes(
    name: str, datatype: str, shape: tuple[int, ...], raw: bytes, parameters: Parameters
) -> InferTensor:
    """Unpack a tensor's elements: little-endian, row-major; BYTES as 4-byte lengths and bytes.

    Raises:
        RequestError: the datatype is none, or the bytes are not what it and the shape say.
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
    """Inverse of `tensor_from_bytes`."""
    if tensor.datatype != BYTES:
        return np.asarray(tensor.data, DTYPES[tensor.datatype]).tobytes()
    elements = [text.encode() for text in cast(Sequence[str], tensor.data)]
    return b"".join(chain.from_iterable((LENGTH.pack(len(one)), one) for one in elements))


def dtype_of(field: str, datatype: str) -> str:
    """Numpy's name of a datatype.

    Raises:
        RequestError: there is no such datatype, or it is BYTES.
    """
    if datatype not in DTYPES:
        known = ", ".join([*DTYPES, BYTES])
        raise RequestError(f"{field}.datatype", short(datatype), f"one of {known}")
    return DTYPES[datatype]


def _texts(field: str, raw: bytes, count: int) -> list[str]:
    quickly = _short_texts(raw) if len(raw) > FEW_BYTES else None
    texts = _any_texts(field, raw) if quickly is None else quickly
    if len(texts) != count:
        raise RequestError(f"{field}: number of elements", len(texts), f"{count} by its shape")
    return texts


def _short_texts(raw: bytes) -> list[str] | None:
    """The strings, if none is empty, holds a zero or is 256 bytes or longer; else None.

    Such lengths are one byte and three zeros, and nothing else is: all are found at once, and then checked to be where
    a walk from length to length would find them. A byte between the strings is what one split needs.
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


def _any_texts(field: str, raw: bytes) -> list[str]:
    texts = []
    at, end = 0, len(raw)
    while at < end:
        start = at + LENGTH.size
        at = start + LENGTH.unpack_from(raw, at)[0] if start <= end else end + 1
        if at > end:
            raise RequestError(
                field, _Words("too few bytes"), "each string after its 4-byte length"
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
    """Read a tensor's `data`, which may be flat or nested.

    Raises:
        RequestError: the datatype is none, or the data is not what it and the shape say.
    """
    field = f"inputs[{name}].data"
    flat = _flat(field, value, shape)
    count = math.prod(shape)
    if len(flat) != count:
        raise RequestError(field, _Words(f"{len(flat)} element(s)"), f"{count} by its shape")
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
        at, bad = next((at, one) for at, one in enumerate(flat) if type(one) not in allowed)
        raise RequestError(f"{field}.data[{at}]", short(bad), f"an element of {datatype}")
    if datatype == BYTES:
        return cast(list[str], flat)
    try:
        return np.array(flat, dtype)
    except OverflowError as error:
        raise RequestError(f"{field}.data", short(flat), f"elements of {datatype}") from error


def tensor_to_json(tensor: InferTensor) -> dict[str, object]:
    """A tensor as the protocol's JSON says it; arrays stay arrays, for an encoder that knows them."""
    said: dict[str, object] = {
        "name": tensor.name,
        "datatype": tensor.datatype,
        "shape": tensor.shape,
        "data": tensor.data,
    }
    return {**said, "parameters": tensor.parameters} if tensor.parameters else said
