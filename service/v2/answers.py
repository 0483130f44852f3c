"""Response bodies of the protocol in JSON."""

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
    """Body of `GET /v2`."""
    return {"name": server.name, "version": server.version, "extensions": server.extensions}


def metadata_json(metadata: ModelMetadata) -> Json:
    """Body of `GET /v2/models/{model}`."""
    return {
        "name": metadata.name,
        "versions": metadata.versions,
        "platform": metadata.platform,
        "inputs": [_tensor_json(tensor) for tensor in metadata.inputs],
        "outputs": [_tensor_json(tensor) for tensor in metadata.outputs],
    }


def _tensor_json(tensor: TensorMetadata) -> Json:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}


def index_json(entries: Iterable[IndexEntry]) -> list[Json]:
    """Body of `POST /v2/repository/index`."""
    return [
        {"name": entry.name, "version": entry.version, "state": entry.state, "reason": entry.reason}
        for entry in entries
    ]


def statistics_json(statistics: Iterable[ModelStatistics]) -> Json:
    """Body of `GET /v2/models/stats`."""
    return {"model_stats": [_model_json(model) for model in statistics]}


def _model_json(model: ModelStatistics) -> Json:
    durations = model.durations.items()
    return {
        "name": model.name,
        "version": model.version,
        "last_inference": model.last_inference_ms,
        "inference_count": model.inference_count,
        "execution_count": model.execution_count,
        "inference_stats": {
            name: {"count": duration.count, "ns": duration.ns} for name, duration in durations
        },
        "batch_stats": [],
    }
