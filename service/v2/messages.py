"""What is said in the Open Inference Protocol V2, whatever carries it. No transport, no model."""

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
"""Datatype -> numpy's. BYTES has none, and BF16 is not spoken: no model here takes or gives it."""
BYTES = "BYTES"


@dataclass(frozen=True)
class InferTensor:
    """One input or output.

    Attributes:
        name: of the tensor.
        datatype: a key of `DTYPES`, or BYTES.
        shape: numbers of elements; their product is that of `data`.
        data: flat, row-major: an array of the datatype's dtype, or for BYTES a list of strings (every text here is
            UTF-8: ids and names).
        parameters: as sent, without those that only say how `data` was packed.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: Data
    parameters: Parameters = field(default_factory=dict)


@dataclass(frozen=True)
class RequestedOutput:
    """An output that the answer shall hold."""

    name: str
    parameters: Parameters = field(default_factory=dict)


@dataclass(frozen=True)
class InferRequest:
    """What is asked of a model.

    Attributes:
        model: name.
        version: empty takes the one that serves.
        id: echoed; empty if the client gave none.
        inputs: in the order of the request, each name once.
        outputs: empty asks for all.
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
    """What a model answers: the outputs in the order asked for, else in that of the metadata."""

    model: str
    version: str
    id: str
    outputs: tuple[InferTensor, ...]
    parameters: Parameters


@dataclass(frozen=True)
class ServerMetadata:
    """Who answers, and which extensions of the protocol it speaks."""

    name: str
    version: str
    extensions: tuple[str, ...]


@dataclass(frozen=True)
class TensorMetadata:
    """One input or output of a model; -1 in the shape is any number."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    is_optional: bool = False


@dataclass(frozen=True)
class ModelMetadata:
    """What a model takes and gives."""

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
        reason: why it is unavailable, or why what is published now is not what serves; else empty.
    """

    name: str
    version: str
    state: Literal["READY", "UNAVAILABLE"]
    reason: str


@dataclass(frozen=True)
class Duration:
    """How often something happened, and nanoseconds in all."""

    count: int = 0
    ns: int = 0


@dataclass(frozen=True)
class ModelStatistics:
    """What one version of a model has done since the process began.

    Attributes:
        last_inference_ms: epoch millisecond; 0: never.
        inference_count: users scored.
        execution_count: requests scored.
        durations: success, fail, queue, compute_input, compute_infer, compute_output, cache_hit, cache_miss (the last
            two are a response cache's: there is none).
    """

    name: str
    version: str
    last_inference_ms: int
    inference_count: int
    execution_count: int
    durations: Mapping[str, Duration]
