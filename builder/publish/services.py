"""Which services are alive, and which generations they have loaded: services announce it in the cache."""

from builder.publish.cache import CacheClient, cache_errors
from models.contract.generation import SERVICES_KEY, heartbeat_key, read_presence


def loaded_by_service(client: CacheClient) -> dict[str, dict[str, str | None]]:
    """Living service -> model -> name of the generation that it has loaded; None: none of that model yet.

    Raises:
        CacheUnavailableError: the cache does not answer.
    """
    with cache_errors(client):
        members = client.smembers(SERVICES_KEY)
        names = sorted(name.decode() for name in members if isinstance(name, bytes))
        found = client.mget([heartbeat_key(name) for name in names]) if names else []
        dead = [name for name, raw in zip(names, found, strict=True) if raw is None]
        if dead:
            client.srem(SERVICES_KEY, *dead)
    return {
        name: read_presence(raw)
        for name, raw in zip(names, found, strict=True)
        if isinstance(raw, bytes)
    }


def waited_for(client: CacheClient, model: str, generation: str) -> list[str]:
    """Living services that follow `model` and have not loaded `generation`."""
    return [
        name
        for name, loaded in loaded_by_service(client).items()
        if model in loaded and loaded[model] != generation
    ]
