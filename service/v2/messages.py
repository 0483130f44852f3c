"""Messages of the Open Inference Protocol V2, independent of the transport."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from numpy.typing import NDArray

Parameter = str | int | float | bool
Parameters = Mapping[str, Parameter]
Data = NDArray[Any] | Sequence[str]

DTYPES = {
    "BOOL": "?",
    "UINT8": "<u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "<i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
"""Datatype -> numpy dtype. BYTES has none; BF16 is not supported, because no model here uses it."""
BYTES = "BYTES"


@dataclass(frozen=True)
class InferTensor:
    """One input or output.

    Attributes:
        name: name of the tensor.
        datatype: a key of `DTYPES`, or BYTES.
        shape: sizes of the dimensions; their product is the number of elements in `data`.
        data: flat, row-major: an array of the datatype's dtype, or for BYTES a list of strings (ids and names, UTF-8).
        parameters: the parameters that were sent, without those that only describe the encoding of `data`.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: Data
    parameters: Parameters = field(default_factory=dict)


@dataclass(frozen=True)
class RequestedOutput:
    """An output that the client asks for."""

    name: str
    parameters: Parameters = field(default_factory=dict)


@dataclass(frozen=True)
class InferRequest:
    """A request to a model.

    Attributes:
        model: name of the model.
        version: empty: the one that serves.
        id: the response repeats it; empty if the client gave none.
        inputs: the tensors in the order of the request, each name once.
        outputs: empty: all.
        parameters: `timeout` (integer, microseconds; 0: none) and `priority` (1 is the highest; 0: the default) are
            read, others are ignored.
    """

    model: str
    inputs: tuple[InferTensor, ...]
    version: str = ""
    id: str = ""
    outputs: tuple[RequestedOutput, ...] = ()
    parameters: Parameters = field(default_factory=dict)


@dataclass(frozen=True)
class InferResponse:
    """A response: the outputs in the order of the request; in that of the metadata if the request names none."""

    model: str
    version: str
    id: str
    outputs: tuple[InferTensor, ...]
    parameters: Parameters


@dataclass(frozen=True)
class ServerMetadata:
    """Name, version and protocol extensions of the server."""

    name: str
    version: str
    extensions: tuple[str, ...]


@dataclass(frozen=True)
class TensorMetadata:
    """One input or output of a model; -1 in the shape means any size."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    is_optional: bool = False


@dataclass(frozen=True)
class ModelMetadata:
    """Inputs and outputs of a model."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorMetadata, ...]
    outputs: tuple[TensorMetadata, ...]


@dataclass(frozen=True)
class IndexEntry:
    """One model of the repository.

    Attributes:
        version: empty if none is loaded.
        reason: why it is unavailable, or why an older generation serves than the published one; else empty.
    """

    name: str
    version: str
    state: Literal["READY", "UNAVAILABLE"]
    reason: str


@dataclass(frozen=True)
class Duration:
    """A number of events, and their total duration in nanoseconds."""

    count: int = 0
    ns: int = 0


@dataclass(frozen=True)
class ModelStatistics:
    """Statistics of one version of a model since the process started.

    Attributes:
        last_inference_ms: epoch millisecond; 0: never.
        inference_count: users scored.
        execution_count: requests scored.
        durations: success, fail, queue, compute_input, compute_infer, compute_output, cache_hit, cache_miss (the last
            two belong to a response cache, which this service does not have).
    """

    name: str
    version: str
    last_inference_ms: int
    inference_count: int
    execution_count: int
    durations: Mapping[str, Duration]
