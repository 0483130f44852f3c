"""Which services are alive, and which generations they have loaded: services announce it in the cache."""

from collections.abc import Sequence

from builder.publish.cache import CacheClient, cache_errors
from models.contract.generation import (
    MAX_PRESENCE_BYTES,
    SERVICES_KEY,
    heartbeat_key,
    read_presence,
)


def loaded_by_service(client: CacheClient) -> dict[str, dict[str, str | None]]:
    """Living service -> model -> name of the generation that it has loaded; None: none of that model yet.

    Raises:
        CacheUnavailableError: the cache does not answer.
    """
    with cache_errors(client):
        names = sorted(name for name in client.smembers(SERVICES_KEY) if isinstance(name, bytes))
        values = _first_bytes(
            client, [heartbeat_key(name.decode(errors="replace")) for name in names]
        )
        announced = dict(zip(names, values, strict=True))
        if dead := [name for name, raw in announced.items() if raw == b""]:
            client.srem(SERVICES_KEY, *dead)
    return {
        name.decode(errors="replace"): read_presence(raw) if isinstance(raw, bytes) else {}
        for name, raw in announced.items()
        if raw != b""
    }


def _first_bytes(client: CacheClient, keys: Sequence[str]) -> list[object]:
    """First bytes of each key, empty if it is missing; the error of a key that holds no string."""
    with client.pipeline(transaction=False) as pipeline:
        for key in keys:
            pipeline.getrange(key, 0, MAX_PRESENCE_BYTES)
        return list(pipeline.execute(raise_on_error=False))


def waited_for(client: CacheClient, model: str, generation: str) -> list[str]:
    """Living services that follow `model` and have not loaded `generation`."""
    return [
        name
        for name, loaded in loaded_by_service(client).items()
        if model in loaded and loaded[model] != generation
    ]
