"""Reads a published generation, with users and artifact, for the demo and the load test."""

from dataclasses import dataclass
from itertools import islice
from typing import Any

from redis import Redis, RedisCluster
from redis.exceptions import RedisClusterException, RedisError

from models.contract.artifact import Artifact, load_artifact
from models.contract.cache_url import redact_url, split_cluster_url
from models.contract.embedded_cache import resolve_cache_url
from models.contract.errors import CacheUnavailableError, UnknownModelError
from models.contract.generation import (
    DEFAULT_KEY,
    MAX_MODEL_NAME,
    MODELS_KEY,
    Generation,
    Pointer,
    first_choice,
    model_names,
    pointer_key,
    read_default_name,
)
from service.errors import NotReadyError
from service.settings import Settings

TIMEOUT_S = 10.0
SCAN_KEYS = 1000


@dataclass(frozen=True)
class Published:
    """One model's current generation.

    Attributes:
        generation: the one that the pointer names.
        users: raw ids of users with a record, in arbitrary order.
        artifact: made the records, and scores them.
    """

    generation: Generation
    users: list[str]
    artifact: Artifact


def read_published(settings: Settings, model: str | None, max_users: int) -> Published:
    """Read a model's current generation.

    Args:
        settings: address of the cache and folder of the artifacts.
        model: name of a published model; None: the service's default model.
        max_users: most users to read, from anywhere in the key space.

    Raises:
        CacheUnavailableError: the cache does not answer.
        NotReadyError: nothing is published.
        UnknownModelError: the model is not published.
    """
    url = resolve_cache_url(settings.cache_url)
    try:
        with connect(url) as client:
            generation = current_generation(client, model or settings.default_model)
            keys = client.scan_iter(match=generation.key_pattern(), count=SCAN_KEYS)
            prefix = len(generation.key(""))
            users = [key.decode()[prefix:] for key in islice(keys, max_users)]
    except (RedisError, RedisClusterException, OSError) as error:
        raise CacheUnavailableError(redact_url(url), str(error)) from error
    return Published(
        generation, users, load_artifact(settings.artifact_dir, generation.artifact_id)
    )


def connect(url: str) -> Redis | RedisCluster:
    """Client of a URL that `resolve_cache_url` returned."""
    plain, is_cluster = split_cluster_url(url)
    if is_cluster:
        return RedisCluster.from_url(plain, socket_timeout=TIMEOUT_S)
    return Redis.from_url(plain, socket_timeout=TIMEOUT_S)


def current_generation(client: Any, model: str | None) -> Generation:
    """A model's current generation; None: of the default model.

    Raises:
        NotReadyError: nothing is published.
        UnknownModelError: the model is not published.
    """
    # Any: redis-py types every answer as bytes or str, though the client's settings decide which.
    names = model_names(client.smembers(MODELS_KEY))
    name = model or read_default_name(client.getrange(DEFAULT_KEY, 0, MAX_MODEL_NAME))
    name = name or first_choice(names)
    if not names or name is None:
        raise NotReadyError(
            "cache: got no published model, expected one; run `absorb build RECIPE` first"
        )
    raw = client.get(pointer_key(name)) if name in names else None
    if raw is None:
        raise UnknownModelError(name, names)
    return Pointer.from_bytes(raw, pointer_key(name)).current
