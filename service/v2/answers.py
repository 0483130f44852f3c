"""The plane's answers in the protocol's JSON."""

from collections.abc import Iterable

from service.v2.messages import (
    IndexEntry,
    ModelMetadata,
    ModelStatistics,
    ServerMetadata,
    TensorMetadata,
)

Json = dict[str, object]


def server_json(server: ServerMetadata) -> Json:
    """Answer to `GET /v2`."""
    return {"name": server.name, "version": server.version, "extensions": server.extensions}


def metadata_json(about: ModelMetadata) -> Json:
    """Answer to `GET /v2/models/{model}`."""
    return {
        "name": about.name,
        "versions": about.versions,
        "platform": about.platform,
        "inputs": [_tensor_json(one) for one in about.inputs],
        "outputs": [_tensor_json(one) for one in about.outputs],
    }


def _tensor_json(tensor: TensorMetadata) -> Json:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}


def index_json(entries: Iterable[IndexEntry]) -> list[Json]:
    """Answer to `POST /v2/repository/index`."""
    return [
        {"name": one.name, "version": one.version, "state": one.state, "reason": one.reason}
        for one in entries
    ]


def statistics_json(statistics: Iterable[ModelStatistics]) -> Json:
    """Answer to `GET /v2/models/stats`."""
    return {"model_stats": [_model_json(one) for one in statistics]}


def _model_json(one: ModelStatistics) -> Json:
    durations = one.durations.items()
    return {
        "name": one.name,
        "version": one.version,
        "last_inference": one.last_inference_ms,
        "inference_count": one.inference_count,
        "execution_count": one.execution_count,
        "inference_stats": {name: {"count": so.count, "ns": so.ns} for name, so in durations},
        "batch_stats": [],
    }
