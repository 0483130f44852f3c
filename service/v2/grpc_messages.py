"""Converts protocol buffers to messages and back, for gRPC."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from google.protobuf.json_format import ParseDict

from models.contract.errors import RequestError, Unquoted
from service.transport.limits import SlateLimits
from service.v2 import inference_pb2 as pb
from service.v2.codec import (
    MAX_DIMENSIONS,
    shape_of,
    short,
    tensor_from_bytes,
    tensor_from_json,
    tensor_to_bytes,
)
from service.v2.limits import MAX_INPUTS, MAX_OUTPUTS, MAX_PARAMETERS, check_number, check_shapes
from service.v2.messages import (
    BYTES,
    IndexEntry,
    InferRequest,
    InferResponse,
    InferTensor,
    ModelMetadata,
    ModelStatistics,
    Parameter,
    Parameters,
    RequestedOutput,
    TensorMetadata,
)
from service.v2.wire import refuse_unsupported

CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    BYTES: "bytes_contents",
}
"""Datatype -> field with its elements if they are not sent as raw bytes. FP16 has no such field."""


def request_of(sent: pb.ModelInferRequest, limits: SlateLimits) -> InferRequest:
    """Read an infer request.

    Args:
        sent: the message.
        limits: lengths of the inputs.

    Raises:
        RequestError: a tensor's shape, datatype or elements contradict each other; a parameter without a value.
    """
    check_number("outputs", len(sent.outputs), MAX_OUTPUTS)
    check_number("inputs", len(sent.inputs), MAX_INPUTS)
    check_shapes([(tensor.name, _shape_of(tensor)) for tensor in sent.inputs], limits)
    return InferRequest(
        model=sent.model_name,
        inputs=_inputs_of(sent),
        version=sent.model_version,
        id=sent.id,
        outputs=tuple(
            RequestedOutput(output.name, _tensor_parameters_of(output, "outputs"))
            for output in sent.outputs
        ),
        parameters=parameters_of(sent.parameters),
    )


def _inputs_of(sent: pb.ModelInferRequest) -> tuple[InferTensor, ...]:
    if not sent.raw_input_contents:
        return tuple(_typed(tensor) for tensor in sent.inputs)
    num_raw, num_inputs = len(sent.raw_input_contents), len(sent.inputs)
    if num_raw != num_inputs:
        raise RequestError("raw_input_contents", num_raw, f"{num_inputs}: one for each input")
    return tuple(map(_raw, sent.inputs, sent.raw_input_contents))


def _raw(sent: pb.ModelInferRequest.InferInputTensor, raw: bytes) -> InferTensor:
    if sent.HasField("contents"):
        where = f"inputs[{sent.name}].contents"
        raise RequestError(where, Unquoted("elements"), "none beside raw_input_contents")
    return tensor_from_bytes(
        sent.name, sent.datatype, _shape_of(sent), raw, _tensor_parameters_of(sent, "inputs")
    )


def _typed(sent: pb.ModelInferRequest.InferInputTensor) -> InferTensor:
    where = f"inputs[{sent.name}]"
    if sent.datatype not in CONTENTS:
        expected = f"one of {', '.join(CONTENTS)}; others in raw_input_contents"
        raise RequestError(f"{where}.datatype", short(sent.datatype), expected)
    shape, packed = _shape_of(sent), getattr(sent.contents, CONTENTS[sent.datatype])
    count = math.prod(shape)
    if len(packed) != count:
        raise RequestError(
            f"{where}.data", Unquoted(f"{len(packed)} element(s)"), f"{count} by its shape"
        )
    elements = list(packed)
    if sent.datatype == BYTES:
        elements = [_text(f"{where}[{at}]", element) for at, element in enumerate(elements)]
    parameters = _tensor_parameters_of(sent, "inputs")
    return tensor_from_json(sent.name, sent.datatype, shape, elements, parameters)


def _text(where: str, raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise RequestError(where, short(raw), "UTF-8 text") from error


def _shape_of(sent: pb.ModelInferRequest.InferInputTensor) -> tuple[int, ...]:
    # One size too many is enough to be refused.
    return shape_of(f"inputs[{sent.name}].shape", list(sent.shape[: MAX_DIMENSIONS + 1]))


def _tensor_parameters_of(
    sent: pb.ModelInferRequest.InferInputTensor | pb.ModelInferRequest.InferRequestedOutputTensor,
    where: str,
) -> Parameters:
    parameters = parameters_of(sent.parameters)
    refuse_unsupported(parameters, f"{where}[{sent.name}]")
    return parameters


def parameters_of(sent: Mapping[str, Any]) -> Parameters:
    """Read the parameters of a request, a tensor or a repository call.

    Raises:
        RequestError: there are too many, or one has no value.
    """
    check_number("parameters", len(sent), MAX_PARAMETERS)
    return {name: _value_of(name, value) for name, value in sent.items()}


def _value_of(name: str, sent: Any) -> Parameter:
    choice = sent.WhichOneof("parameter_choice")
    if choice is None:
        raise RequestError(f"parameters[{name}]", None, "a string, a number or a boolean")
    value: Parameter = getattr(sent, choice)
    return value


def response_for(response: InferResponse) -> pb.ModelInferResponse:
    """Make an infer response; elements are sent as raw bytes, as Triton does."""
    return pb.ModelInferResponse(
        model_name=response.model,
        model_version=response.version,
        id=response.id,
        parameters=_parameters_for(response.parameters),
        outputs=[
            pb.ModelInferResponse.InferOutputTensor(
                name=tensor.name,
                datatype=tensor.datatype,
                shape=tensor.shape,
                parameters=_parameters_for(tensor.parameters),
            )
            for tensor in response.outputs
        ],
        raw_output_contents=[tensor_to_bytes(tensor) for tensor in response.outputs],
    )


def _parameters_for(parameters: Parameters) -> dict[str, pb.InferParameter]:
    return {name: _parameter_for(value) for name, value in parameters.items()}


def _parameter_for(value: Parameter) -> pb.InferParameter:
    if isinstance(value, bool):
        return pb.InferParameter(bool_param=value)
    if isinstance(value, int):
        return pb.InferParameter(int64_param=value)
    if isinstance(value, float):
        return pb.InferParameter(double_param=value)
    return pb.InferParameter(string_param=value)


def metadata_for(metadata: ModelMetadata) -> pb.ModelMetadataResponse:
    """Make a metadata response."""
    return pb.ModelMetadataResponse(
        name=metadata.name,
        versions=metadata.versions,
        platform=metadata.platform,
        inputs=_tensors_for(metadata.inputs),
        outputs=_tensors_for(metadata.outputs),
    )


def _tensors_for(
    tensors: Iterable[TensorMetadata],
) -> list[pb.ModelMetadataResponse.TensorMetadata]:
    kind = pb.ModelMetadataResponse.TensorMetadata
    return [
        kind(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape) for tensor in tensors
    ]


def config_for(config: dict[str, object]) -> pb.ModelConfigResponse:
    """Make a configuration response: the message has the fields of the JSON form."""
    return pb.ModelConfigResponse(config=ParseDict(config, pb.ModelConfig()))


def statistics_for(models: Iterable[ModelStatistics]) -> pb.ModelStatisticsResponse:
    """Make a statistics response."""
    return pb.ModelStatisticsResponse(
        model_stats=[_model_statistics_for(model) for model in models]
    )


def _model_statistics_for(model: ModelStatistics) -> pb.ModelStatistics:
    durations = {
        name: pb.StatisticDuration(count=duration.count, ns=duration.ns)
        for name, duration in model.durations.items()
    }
    return pb.ModelStatistics(
        name=model.name,
        version=model.version,
        last_inference=model.last_inference_ms,
        inference_count=model.inference_count,
        execution_count=model.execution_count,
        inference_stats=pb.InferStatistics(**durations),
    )


def index_for(entries: Iterable[IndexEntry]) -> pb.RepositoryIndexResponse:
    """Make a repository index response."""
    kind = pb.RepositoryIndexResponse.ModelIndex
    return pb.RepositoryIndexResponse(
        models=[
            kind(name=entry.name, version=entry.version, state=entry.state, reason=entry.reason)
            for entry in entries
        ]
    )
