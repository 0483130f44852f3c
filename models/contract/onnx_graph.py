"""Which ONNX graphs keep tensors outside their own bytes, read from the protobuf encoding itself.

A tensor may name a file that holds its data. No hash of the graph covers that file, and ONNX Runtime looks it up beside
the model's file, or in the working directory for a model that came as bytes. Neither half of the system needs that, so
such graphs are refused. The service has no `onnx` to read a graph with; the encoding is simple enough to walk.

Source: the messages of `onnx.proto` (ONNX 1.23), and https://protobuf.dev/programming-guides/encoding.
"""

from collections.abc import Iterator, Mapping

from models.contract.errors import ArtifactError, shown

MAX_GRAPH_BYTES = (1 << 31) - 1
"""Longest message that protobuf reads."""
ORT_FORMAT = b"ORTM"
"""At byte 4 of ONNX Runtime's own format, which it also takes, and which is not walked here."""

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
FIXED_BYTES = {FIXED64: 8, FIXED32: 4}
TENSOR, TENSOR_NAME, EXTERNAL_DATA, DATA_LOCATION = "tensor", 8, 13, 14
CHILDREN: Mapping[str, Mapping[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: TENSOR, 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: TENSOR, 6: "graph", 10: TENSOR, 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: TENSOR, 2: TENSOR},
}
"""Message -> number of a field -> the message that it holds, for every path that leads to a tensor."""


def require_self_contained(raw: bytes, source: str) -> None:
    """Check that all data of an ONNX model are in its own bytes.

    Args:
        raw: the model, of any origin.
        source: its file, for the error.

    Raises:
        ArtifactError: a tensor keeps its data elsewhere, or the bytes are not an ONNX model.
    """
    if len(raw) > MAX_GRAPH_BYTES:
        raise ArtifactError(
            f"artifact: {source}: got {len(raw)} bytes, expected at most {MAX_GRAPH_BYTES}"
        )
    try:
        if raw[4:8] == ORT_FORMAT:
            raise ValueError("got ONNX Runtime's own format")
        name = _external_tensor(raw)
    except ValueError as error:
        raise ArtifactError(f"artifact: {source}: not an ONNX model: {error}") from error
    if name is not None:
        raise ArtifactError(
            f"artifact: {source}: tensor {shown(name)} keeps its data outside the model (ONNX external data), "
            "expected all data in the model's own bytes"
        )


def _external_tensor(raw: bytes) -> str | None:
    """Name of the first tensor found with data elsewhere; None if there is none."""
    waiting = [("model", 0, len(raw))]  # not recursive: a hostile graph nests deeply
    while waiting:
        kind, start, end = waiting.pop()
        if kind == TENSOR:
            if _is_external(raw, start, end):
                return _tensor_name(raw, start, end)
            continue
        children = CHILDREN[kind]
        for number, wire, first, last in _fields(raw, start, end):
            if wire == BYTES and number in children:
                waiting.append((children[number], first, last))
    return None


def _is_external(raw: bytes, start: int, end: int) -> bool:
    """Whether a tensor has a place elsewhere, or says that it has. Either is refused, at any value but the default."""
    for number, wire, first, last in _fields(raw, start, end):
        if number == EXTERNAL_DATA:
            return True
        if number == DATA_LOCATION and (
            wire != VARINT or any(byte & 0x7F for byte in raw[first:last])
        ):
            return True
    return False


def _tensor_name(raw: bytes, start: int, end: int) -> str:
    names = (
        raw[first:last].decode(errors="replace")
        for number, wire, first, last in _fields(raw, start, end)
        if number == TENSOR_NAME and wire == BYTES
    )
    return next(names, "")


def _fields(raw: bytes, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Number, wire type, and the range of the content, of each field of a message.

    Raises:
        ValueError: the bytes are not a message.
    """
    while start < end:
        tag, first = _varint(raw, start, end)
        number, wire = tag >> 3, tag & 7
        if wire == BYTES:
            size, first = _varint(raw, first, end)
            start = first + size
        elif wire == VARINT:
            _, start = _varint(raw, first, end)
        elif wire in FIXED_BYTES:
            start = first + FIXED_BYTES[wire]
        else:
            raise ValueError(f"got wire type {wire} at byte {first}")
        if number == 0 or start > end:
            raise ValueError(
                f"got a field that ends after its message, or has number 0, at byte {first}"
            )
        yield number, wire, first, start


def _varint(raw: bytes, start: int, end: int) -> tuple[int, int]:
    """A number, and the place after it.

    Raises:
        ValueError: it does not end within ten bytes, or not before `end`.
    """
    value = 0
    for place, byte in enumerate(raw[start : min(start + 10, end)]):
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value, start + place + 1
    raise ValueError(f"got a number without end at byte {start}")
