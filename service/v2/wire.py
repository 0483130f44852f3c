"""Request and response bodies of the protocol over HTTP: a JSON header, then the tensors that are sent as bytes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from models.contract.errors import RequestError, Unquoted
from service.transport.limits import SlateLimits
from service.v2.codec import (
    shape_of,
    short,
    tensor_from_bytes,
    tensor_from_json,
    tensor_to_bytes,
    tensor_to_json,
)
from service.v2.limits import (
    JSON_BOUND,
    MAX_INPUTS,
    MAX_OUTPUTS,
    MAX_PARAMETERS,
    check_number,
    check_shapes,
)
from service.v2.messages import (
    InferRequest,
    InferResponse,
    InferTensor,
    Parameter,
    Parameters,
    RequestedOutput,
)

LENGTH_HEADER = "Inference-Header-Content-Length"
"""Header with the length of the JSON in bytes; present if and only if tensor bytes follow the JSON."""
BINARY_SIZE = "binary_data_size"
UNSUPPORTED = {
    "shared_memory_region": "no shared memory: tensors come in the body",
    "classification": "no classification: ask for `scores`",
}
"""Unsupported parameter of a tensor -> what is expected instead. Ignoring it would give a wrong answer."""

Json = dict[str, Any]


def read_infer(
    model: str, version: str, body: bytes, header_length: str | None, limits: SlateLimits
) -> InferRequest:
    """Read the body of an infer request.

    Args:
        model: name of the model, from the path.
        version: version of the model, from the path; empty if the path has none.
        body: decompressed.
        header_length: value of `LENGTH_HEADER`; None if the request has no such header.
        limits: lengths of the inputs.

    Raises:
        RequestError: naming the field, what came and what was expected.
    """
    size = _header_size(header_length, len(body))
    header = body[:size]
    JSON_BOUND.check(header)
    fields = read_object(header)
    inputs, outputs = _list(fields, "inputs"), _list(fields, "outputs")
    check_number("outputs", len(outputs), MAX_OUTPUTS)
    return InferRequest(
        model,
        _read_inputs(inputs, _Tail(body, size), limits),
        version,
        _text(fields.get("id", ""), "id"),
        tuple(_read_output(value, at) for at, value in enumerate(outputs)),
        parameters_of(fields, "parameters"),
    )


def read_object(raw: bytes) -> Json:
    """Parse a JSON object; an empty body means an empty object.

    Raises:
        RequestError: the body is not a JSON object.
    """
    if not raw.strip():
        return {}
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise RequestError("body", short(raw[:40]), f"JSON ({error})") from error
    return _object(value, "body")


def _header_size(header_length: str | None, body_size: int) -> int:
    if header_length is None:
        return body_size
    if not (header_length.isascii() and header_length.isdecimal()):
        raise RequestError(LENGTH_HEADER, short(header_length), "a number of bytes")
    size = int(header_length[:20])
    if size == 0:
        expected = "a JSON header: models here take several inputs, which raw mode cannot name"
        raise RequestError(LENGTH_HEADER, 0, expected)
    if size > body_size:
        raise RequestError(LENGTH_HEADER, size, f"at most the {body_size} bytes of the body")
    return size


class _Tail:
    """The bytes after the JSON header, taken from front to back."""

    def __init__(self, body: bytes, start: int) -> None:
        self._body = body
        self._at = start

    @property
    def rest(self) -> int:
        return len(self._body) - self._at

    def take(self, size: object, field: str) -> bytes:
        """The next `size` bytes."""
        if type(size) is not int or not 0 <= size <= self.rest:
            expected = f"a number of bytes, at most the {self.rest} that follow"
            raise RequestError(field, short(size), expected)
        self._at += size
        return self._body[self._at - size : self._at]


@dataclass(frozen=True, slots=True)
class _Sent:
    """An input as it was sent: its elements are not decoded yet."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    fields: Json
    parameters: dict[str, Parameter]

    def decoded(self, tail: _Tail) -> InferTensor:
        if BINARY_SIZE not in self.parameters:
            data = self.fields.get("data")
            return tensor_from_json(self.name, self.datatype, self.shape, data, self.parameters)
        field = f"inputs[{short(self.name)}]"
        if "data" in self.fields:
            got = Unquoted("JSON data")
            raise RequestError(f"{field}.data", got, f"no data beside {BINARY_SIZE}")
        size = self.parameters.pop(BINARY_SIZE)
        raw = tail.take(size, f"{field}.parameters.{BINARY_SIZE}")
        return tensor_from_bytes(self.name, self.datatype, self.shape, raw, self.parameters)


def _read_inputs(listed: list[object], tail: _Tail, limits: SlateLimits) -> tuple[InferTensor, ...]:
    check_number("inputs", len(listed), MAX_INPUTS)
    sent = [_read_input(value, at) for at, value in enumerate(listed)]
    check_shapes([(one.name, one.shape) for one in sent], limits)
    inputs = tuple(one.decoded(tail) for one in sent)
    if tail.rest:
        got = Unquoted(f"{tail.rest} bytes more than the inputs name")
        raise RequestError("body", got, f"as many as their {BINARY_SIZE} name")
    return inputs


def _read_input(value: object, at: int) -> _Sent:
    fields = _object(value, f"inputs[{at}]")
    name = _text(fields.get("name"), f"inputs[{at}].name")
    field = f"inputs[{short(name)}]"
    datatype = _text(fields.get("datatype"), f"{field}.datatype")
    shape = shape_of(f"{field}.shape", fields.get("shape"))
    parameters = dict(parameters_of(fields, f"{field}.parameters"))
    refuse_unsupported(parameters, field)
    return _Sent(name, datatype, shape, fields, parameters)


def _read_output(value: object, at: int) -> RequestedOutput:
    fields = _object(value, f"outputs[{at}]")
    name = _text(fields.get("name"), f"outputs[{at}].name")
    parameters = parameters_of(fields, f"outputs[{short(name)}].parameters")
    refuse_unsupported(parameters, f"outputs[{short(name)}]")
    return RequestedOutput(name, parameters)


def refuse_unsupported(parameters: Parameters, field: str) -> None:
    """Reject parameters of a tensor that this service does not support.

    Raises:
        RequestError: there is one.
    """
    for name, expected in UNSUPPORTED.items():
        if name in parameters:
            raise RequestError(f"{field}.parameters", name, expected)


def _object(value: object, field: str) -> Json:
    if not isinstance(value, dict):
        raise RequestError(field, short(value), "a JSON object")
    return value


def _list(fields: Json, name: str) -> list[object]:
    value = fields.get(name, [])
    if not isinstance(value, list):
        raise RequestError(name, short(value), "a list")
    return value


def _text(value: object, field: str) -> str:
    if not isinstance(value, str):
        raise RequestError(field, short(value), "a string")
    return value


def parameters_of(fields: Json, field: str) -> Mapping[str, Parameter]:
    """Read the `parameters` of an object. Values that are not strings, numbers or booleans are dropped: none is used.

    Raises:
        RequestError: `parameters` is not an object, or has too many entries.
    """
    sent = _object(fields.get("parameters", {}), field)
    check_number(field, len(sent), MAX_PARAMETERS)
    return {name: value for name, value in sent.items() if isinstance(value, str | int | float)}


def write_infer(request: InferRequest, response: InferResponse) -> tuple[bytes, int | None]:
    """Make a response body.

    Returns:
        The body, and the length of its JSON header in bytes; None if the body is JSON only.
    """
    outputs, tail = [], []
    for tensor in response.outputs:
        if _is_binary(request, tensor.name):
            raw = tensor_to_bytes(tensor)
            tail.append(raw)
            outputs.append(_described(tensor, len(raw)))
        else:
            outputs.append(tensor_to_json(tensor))
    fields: Json = {
        "model_name": response.model,
        "model_version": response.version,
        **({"id": response.id} if response.id else {}),
        "parameters": response.parameters,
        "outputs": outputs,
    }
    header = orjson.dumps(fields, option=orjson.OPT_SERIALIZE_NUMPY)
    return (b"".join([header, *tail]), len(header)) if tail else (header, None)


def _is_binary(request: InferRequest, output: str) -> bool:
    """Whether an output is sent as bytes: its own parameter decides, else the request's."""
    default = request.parameters.get("binary_data_output", False)
    parameters: Parameters = next(
        (requested.parameters for requested in request.outputs if requested.name == output), {}
    )
    return parameters.get("binary_data", default) is True


def _described(tensor: InferTensor, size: int) -> Json:
    return {
        "name": tensor.name,
        "datatype": tensor.datatype,
        "shape": tensor.shape,
        "parameters": {**tensor.parameters, BINARY_SIZE: size},
    }
