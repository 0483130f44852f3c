"""The default model of a cache, which answers requests that name none. The first publish sets it; later ones do not."""

from redis.exceptions import ResponseError

from builder.errors import PublishError
from builder.publish.cache import CacheClient, cache_address, cache_errors
from builder.publish.generations import read_pointer
from models.contract.errors import did_you_mean, shown
from models.contract.generation import (
    DEFAULT_KEY,
    MAX_MODEL_NAME,
    MODELS_KEY,
    model_names,
    read_default_name,
)


def read_default(client: CacheClient) -> str | None:
    """The default model; None before the first publish, or where the key holds no name.

    Raises:
        CacheUnavailableError: the cache does not answer.
    """
    with cache_errors(client):
        try:
            return read_default_name(client.getrange(DEFAULT_KEY, 0, MAX_MODEL_NAME))
        except ResponseError as error:
            if str(error).startswith("WRONGTYPE"):
                return None
            raise


def choose_default(client: CacheClient, model: str) -> str | None:
    """Make a published model the default of all services; returns the one before.

    Raises:
        PublishError: the model is not published.
        GenerationError: its pointer cannot be read.
        CacheUnavailableError: the cache does not answer.
    """
    before = read_default(client)
    with cache_errors(client):
        published = model_names(client.smembers(MODELS_KEY))
    if model not in published or read_pointer(client, model)[0] is None:
        listed = ", ".join(published) or f"none, {cache_address(client)} has no published model"
        hint = did_you_mean(model, published)
        raise PublishError(f"default model: got {shown(model)}, expected one of: {listed}{hint}")
    with cache_errors(client):
        client.set(DEFAULT_KEY, model)
    return before
