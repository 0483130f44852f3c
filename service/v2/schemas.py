"""Bodies of the routes under /v2, as OpenAPI documents them; `wire.py` reads and `answers.py` makes them."""

from typing import Any, Literal

from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from service.transport.schemas import Answer, Ready

Scalar = bool | int | float | str
Parameters = dict[str, Scalar]
Sizes = list[int]
EXAMPLE: JsonDict = {
    "inputs": [
        {"name": "user_id", "shape": [1], "datatype": "BYTES", "data": ["42"]},
        {"name": "candidates", "shape": [2], "datatype": "BYTES", "data": ["7", "9"]},
        {"name": "display", "shape": [2], "datatype": "BYTES", "data": ["front end cap", "none"]},
    ]
}
"""`display` is a candidate field of the model."""


class ModelReady(Ready):
    """Response of GET /v2/models/{model}/ready with status 200."""

    name: str


class Server(Answer):
    """Name, version and protocol extensions of the server."""

    name: str
    version: str
    extensions: list[str]


class TensorMetadata(Answer):
    """One input or output of a model."""

    name: str
    datatype: str
    shape: Sizes
    """-1: any size."""


class ModelMetadata(Answer):
    """Inputs and outputs of a model."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ConfiguredTensor(Answer):
    """One input or output in a model configuration."""

    name: str
    data_type: str
    dims: Sizes
    optional: bool = False


class ConfiguredText(Answer):
    """Value of one parameter in a model configuration."""

    string_value: str


class ModelConfig(Answer):
    """Triton's model configuration."""

    name: str
    platform: str
    backend: str
    max_batch_size: Literal[0]
    version_policy: dict[str, Any]
    input: list[ConfiguredTensor]
    output: list[ConfiguredTensor]
    parameters: dict[str, ConfiguredText]
    """`engine`, which computes the scores, and its `device`."""


class IndexEntry(Answer):
    """One model of the repository."""

    name: str
    version: str
    """Empty if none is loaded."""

    state: Literal["READY", "UNAVAILABLE"]
    reason: str
    """Why it is unavailable, or why an older generation serves than the published one; else empty."""


class Duration(Answer):
    """A number of events, and their total duration in nanoseconds."""

    count: int
    ns: int


class ModelStatistics(Answer):
    """Statistics of one version of a model since the process started."""

    name: str
    version: str
    last_inference: int
    """Epoch millisecond; 0: never."""

    inference_count: int
    execution_count: int
    inference_stats: dict[str, Duration]
    batch_stats: list[Any]


class Statistics(Answer):
    """Response of GET /v2/models/stats."""

    model_stats: list[ModelStatistics]


class OutputTensor(Answer):
    """One output. If its parameters have `binary_data_size`, its elements follow the JSON and `data` is absent."""

    name: str
    datatype: str
    shape: Sizes
    data: list[Scalar] | None = None
    parameters: Parameters | None = None


class InferAnswer(Answer):
    """Scores in the form of the protocol."""

    model_name: str
    model_version: str
    id: str | None = None
    """As in the request; absent if the request has none."""

    parameters: Parameters
    """`degraded`, and `degraded_reason` if that is true. `unknown_candidate_fields` and `unknown_context`, if there
    are any: JSON text, field -> values that were scored as the field's unknown value, as in POST /v1/score. The values
    are those of all users, each once. `states_complete` and `states_lag_ms`, if a worker folds events into the model's
    states: whether none waited when it looked last, and the time that an event took lately."""

    outputs: list[OutputTensor]


class InputTensor(Answer):
    """One input."""

    name: str
    datatype: str
    shape: list[int] = Field(min_length=1, max_length=2)
    data: list[Scalar]
    """Row-major and flat, or nested according to the shape."""

    parameters: Parameters = Field({})


class RequestedOutput(Answer):
    """An output that the client asks for."""

    name: Literal["scores", "state_source", "unknown", "generation", "new"]
    parameters: Parameters = Field({})


class InferBody(Answer):
    """Body of POST /v2/models/{model}/infer; the inputs `user_id` and `candidates` are required."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    id: str = ""
    """The response repeats it."""

    parameters: Parameters = Field({})
    """`timeout` (microseconds; 0: none), `priority` (1 is the highest; 0: the default); others are ignored."""

    inputs: list[InputTensor]
    """GET /v2/models/{model} lists them. A candidate field is an input with the shape of `candidates`."""

    outputs: list[RequestedOutput] = Field([])
    """Absent: all."""


class IndexBody(Answer):
    """Body of POST /v2/repository/index; it may be empty."""

    ready: bool = False
    """Whether to list only models that serve."""
