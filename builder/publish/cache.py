"""The builder's Redis client: made from a URL, with time limits; its errors become `CacheUnavailableError`."""

from collections.abc import Iterator
from contextlib import contextmanager

from redis import Redis, RedisCluster
from redis.backoff import ExponentialBackoff
from redis.exceptions import RedisClusterException, RedisError
from redis.retry import Retry

from models.contract.cache_url import redact_url, split_cluster_url
from models.contract.embedded_cache import resolve_cache_url
from models.contract.errors import CacheUnavailableError
from models.contract.generation import MAX_POINTER_BYTES

CacheClient = Redis | RedisCluster
EXPECTED_URL = (
    "not a cache URL; expected embedded:[folder], redis://, rediss://, redis+cluster:// or unix://, "
    "with special characters of the password percent-encoded"
)
CONNECT_LIMIT_S = 5.0
REPLY_LIMIT_S = 5.0
NUM_RETRIES = 5
"""With waits of 0.2, 0.4, 0.8, 1.6 and 1.6 s: a publish survives a server that restarts within about 4 s."""


def connect_cache(url: str) -> CacheClient:
    """Connect to the cache and check that it answers.

    Args:
        url: URL that `resolve_cache_url` accepts, or `redis+cluster://`, `rediss+cluster://` (any one node).

    Raises:
        CacheUnavailableError: the URL is not a cache URL, or no server answers.
    """
    shown = redact_url(url)
    plain, is_cluster = split_cluster_url(resolve_cache_url(url))
    limits = {
        "socket_connect_timeout": CONNECT_LIMIT_S,
        "socket_timeout": REPLY_LIMIT_S,
        "retry": Retry(ExponentialBackoff(cap=1.6, base=0.1), NUM_RETRIES),
    }
    try:
        if is_cluster:
            return RedisCluster.from_url(plain, **limits)
        client = Redis.from_url(plain, **limits)
        client.ping()
        return client
    except ValueError:  # not quoted, not chained: the message may hold a part of the password
        raise CacheUnavailableError(shown, EXPECTED_URL) from None
    except (RedisError, RedisClusterException, OSError) as error:
        raise CacheUnavailableError(shown, str(error)) from error


def cache_address(client: CacheClient) -> str:
    """Address that a client is connected to, without the password."""
    if isinstance(client, RedisCluster):
        nodes = client.get_primaries()  # type: ignore[no-untyped-call]
        return ", ".join(sorted(node.name for node in nodes))
    options = client.connection_pool.connection_kwargs
    if "path" in options:
        return f"unix://{options['path']}"
    return f"redis://{options['host']}:{options['port']}/{options.get('db', 0)}"


@contextmanager
def cache_errors(client: CacheClient) -> Iterator[None]:
    """Raise `CacheUnavailableError` for any error of the Redis client inside the block."""
    try:
        yield
    except (RedisError, RedisClusterException) as error:
        raise CacheUnavailableError(cache_address(client), str(error)) from error


def read_control(client: CacheClient, key: str) -> bytes | None:
    """First `MAX_POINTER_BYTES` + 1 bytes of a pointer or a lock; None if the key does not exist, or is empty.

    Raises:
        CacheUnavailableError: the cache does not answer, or the key holds no string.
    """
    with cache_errors(client):
        value = client.getrange(key, 0, MAX_POINTER_BYTES)
    return (value.encode() if isinstance(value, str) else value) or None
