"""Protocol buffers <-> messages: what the gRPC door reads and writes, and no decision."""

from collections.abc import Iterable, Mapping
from typing import Any

from google.protobuf.json_format import ParseDict

from models.contract.errors import RequestError
from service.v2 import inference_pb2 as pb
from service.v2.codec import shape_of, short, tensor_from_bytes, tensor_from_json, tensor_to_bytes
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
"""Datatype -> the field that carries its elements where they are not raw bytes. FP16 has none."""


def request_of(sent: pb.ModelInferRequest) -> InferRequest:
    """What is asked.

    Raises:
        RequestError: a tensor's shape, datatype or elements contradict each other; a parameter without a value.
    """
    return InferRequest(
        model=sent.model_name,
        inputs=_inputs_of(sent),
        version=sent.model_version,
        id=sent.id,
        outputs=tuple(
            RequestedOutput(one.name, _tensor_parameters_of(one, "outputs")) for one in sent.outputs
        ),
        parameters=parameters_of(sent.parameters),
    )


def _inputs_of(sent: pb.ModelInferRequest) -> tuple[InferTensor, ...]:
    if not sent.raw_input_contents:
        return tuple(_typed(one) for one in sent.inputs)
    num_raw, num_inputs = len(sent.raw_input_contents), len(sent.inputs)
    if num_raw != num_inputs:
        raise RequestError("raw_input_contents", num_raw, f"{num_inputs}: one for each input")
    return tuple(map(_raw, sent.inputs, sent.raw_input_contents))


def _raw(sent: pb.ModelInferRequest.InferInputTensor, raw: bytes) -> InferTensor:
    if sent.HasField("contents"):
        where = f"inputs[{sent.name}].contents"
        raise RequestError(where, "elements", "none, beside raw_input_contents")
    return tensor_from_bytes(
        sent.name, sent.datatype, _shape_of(sent), raw, _tensor_parameters_of(sent, "inputs")
    )


def _typed(sent: pb.ModelInferRequest.InferInputTensor) -> InferTensor:
    where = f"inputs[{sent.name}]"
    if sent.datatype not in CONTENTS:
        expected = f"one of {', '.join(CONTENTS)}; others in raw_input_contents"
        raise RequestError(f"{where}.datatype", short(sent.datatype), expected)
    elements = list(getattr(sent.contents, CONTENTS[sent.datatype]))
    if sent.datatype == BYTES:
        elements = [_text(f"{where}[{at}]", one) for at, one in enumerate(elements)]
    return tensor_from_json(
        sent.name, sent.datatype, _shape_of(sent), elements, _tensor_parameters_of(sent, "inputs")
    )


def _text(where: str, raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise RequestError(where, short(raw), "UTF-8 text") from error


def _shape_of(sent: pb.ModelInferRequest.InferInputTensor) -> tuple[int, ...]:
    return shape_of(f"inputs[{sent.name}].shape", list(sent.shape))


def _tensor_parameters_of(
    sent: pb.ModelInferRequest.InferInputTensor | pb.ModelInferRequest.InferRequestedOutputTensor,
    where: str,
) -> Parameters:
    parameters = parameters_of(sent.parameters)
    refuse_unsupported(parameters, f"{where}[{sent.name}]")
    return parameters


def parameters_of(sent: Mapping[str, Any]) -> Parameters:
    """Parameters of a request, a tensor or a repository call.

    Raises:
        RequestError: one has no value.
    """
    return {name: _value_of(name, one) for name, one in sent.items()}


def _value_of(name: str, sent: Any) -> Parameter:
    choice = sent.WhichOneof("parameter_choice")
    if choice is None:
        raise RequestError(f"parameters[{name}]", None, "a string, a number or a boolean")
    value: Parameter = getattr(sent, choice)
    return value


def response_for(answer: InferResponse) -> pb.ModelInferResponse:
    """An answer, its elements as raw bytes, as Triton sends them."""
    return pb.ModelInferResponse(
        model_name=answer.model,
        model_version=answer.version,
        id=answer.id,
        parameters=_parameters_for(answer.parameters),
        outputs=[
            pb.ModelInferResponse.InferOutputTensor(
                name=one.name,
                datatype=one.datatype,
                shape=one.shape,
                parameters=_parameters_for(one.parameters),
            )
            for one in answer.outputs
        ],
        raw_output_contents=[tensor_to_bytes(one) for one in answer.outputs],
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


def metadata_for(about: ModelMetadata) -> pb.ModelMetadataResponse:
    """What a model takes and gives."""
    return pb.ModelMetadataResponse(
        name=about.name,
        versions=about.versions,
        platform=about.platform,
        inputs=_tensors_for(about.inputs),
        outputs=_tensors_for(about.outputs),
    )


def _tensors_for(
    tensors: Iterable[TensorMetadata],
) -> list[pb.ModelMetadataResponse.TensorMetadata]:
    kind = pb.ModelMetadataResponse.TensorMetadata
    return [kind(name=one.name, datatype=one.datatype, shape=one.shape) for one in tensors]


def config_for(config: dict[str, object]) -> pb.ModelConfigResponse:
    """A model's configuration: its JSON form is that of the protocol's message."""
    return pb.ModelConfigResponse(config=ParseDict(config, pb.ModelConfig()))


def statistics_for(models: Iterable[ModelStatistics]) -> pb.ModelStatisticsResponse:
    """What models have done."""
    return pb.ModelStatisticsResponse(model_stats=[_model_statistics_for(one) for one in models])


def _model_statistics_for(one: ModelStatistics) -> pb.ModelStatistics:
    durations = {
        name: pb.StatisticDuration(count=duration.count, ns=duration.ns)
        for name, duration in one.durations.items()
    }
    return pb.ModelStatistics(
        name=one.name,
        version=one.version,
        last_inference=one.last_inference_ms,
        inference_count=one.inference_count,
        execution_count=one.execution_count,
        inference_stats=pb.InferStatistics(**durations),
    )


def index_for(entries: Iterable[IndexEntry]) -> pb.RepositoryIndexResponse:
    """The models of the repository."""
    kind = pb.RepositoryIndexResponse.ModelIndex
    return pb.RepositoryIndexResponse(
        models=[
            kind(name=one.name, version=one.version, state=one.state, reason=one.reason)
            for one in entries
        ]
    )
