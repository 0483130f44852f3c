"""Bodies of the routes under /v2, as OpenAPI describes them; `wire.py` reads and `answers.py` makes them."""

from typing import Any, Literal

from pydantic import Field

from service.transport.schemas import Answer, Ready

Scalar = bool | int | float | str
Parameters = dict[str, Scalar]
Sizes = list[int]


class ModelReady(Ready):
    """What GET /v2/models/{model}/ready answers with status 200."""

    name: str


class Server(Answer):
    """Who answers, and which extensions of the protocol it speaks."""

    name: str
    version: str
    extensions: list[str]


class TensorAbout(Answer):
    """One input or output of a model."""

    name: str
    datatype: str
    shape: Sizes
    """-1: any number."""


class ModelAbout(Answer):
    """What a model takes and gives."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorAbout]
    outputs: list[TensorAbout]


class ConfiguredTensor(Answer):
    """One input or output of a configuration."""

    name: str
    data_type: str
    dims: Sizes
    optional: bool = False


class ModelConfig(Answer):
    """The same as Triton's model configuration."""

    name: str
    platform: str
    backend: str
    max_batch_size: Literal[0]
    version_policy: dict[str, Any]
    input: list[ConfiguredTensor]
    output: list[ConfiguredTensor]


class IndexEntry(Answer):
    """One model of the repository."""

    name: str
    version: str
    """Empty if none is loaded."""

    state: Literal["READY", "UNAVAILABLE"]
    reason: str
    """Why it is unavailable, or why what is published now is not what serves; else empty."""


class Duration(Answer):
    """How often something happened, and nanoseconds in all."""

    count: int
    ns: int


class ModelStatistics(Answer):
    """What one version of a model has done since the process began."""

    name: str
    version: str
    last_inference: int
    """Epoch millisecond; 0: never."""

    inference_count: int
    execution_count: int
    inference_stats: dict[str, Duration]
    batch_stats: list[Any]


class Statistics(Answer):
    """What GET /v2/models/stats answers."""

    model_stats: list[ModelStatistics]


class OutputTensor(Answer):
    """One output. With `binary_data_size` among its parameters its elements follow the JSON, and `data` is absent."""

    name: str
    datatype: str
    shape: Sizes
    data: list[Scalar] | None = None
    parameters: Parameters | None = None


class InferAnswer(Answer):
    """Scores, as the protocol says them."""

    model_name: str
    model_version: str
    id: str | None = None
    """As asked; absent if the request has none."""

    parameters: Parameters
    """`degraded`, and `degraded_reason` where it is true."""

    outputs: list[OutputTensor]


class InputTensor(Answer):
    """One input."""

    name: str
    datatype: str
    shape: list[int] = Field(min_length=1, max_length=2)
    data: list[Scalar]
    """Row-major, flat; nested lists as the shape says are taken, too."""

    parameters: Parameters = Field({})


class WantedOutput(Answer):
    """An output that the answer shall hold."""

    name: Literal["scores", "state_source", "unknown", "generation"]
    parameters: Parameters = Field({})


class InferBody(Answer):
    """What POST /v2/models/{model}/infer takes; `user_id` and `candidates` must be among the inputs."""

    id: str = ""
    """Echoed."""

    parameters: Parameters = Field({})
    """`timeout` (microseconds; 0: none), `priority` (1 is the highest; 0: the default); others are ignored."""

    inputs: list[InputTensor]
    outputs: list[WantedOutput] = Field([])
    """Absent: all."""


class IndexBody(Answer):
    """What POST /v2/repository/index takes; it may be empty."""

    ready: bool = False
    """Only models that serve."""
