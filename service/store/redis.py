"""The cache as the service reads it. Redis errors end here: callers see `CacheUnavailableError` only."""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Protocol, TypeVar, cast

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from models.contract.cache_url import redact_url
from models.contract.errors import AbsorbError, CacheUnavailableError, CorruptRecordError
from models.contract.generation import MODELS_KEY, SERVICES_KEY, pointer_key, presence_key

MAX_CONNECTIONS = 64
CONTROL_TIMEOUT_S = 2.0
"""For the pointers, which are read off the hot path."""

Result = TypeVar("Result")


class StateStore(Protocol):
    """What the service needs of a cache."""

    async def read(self, key: str) -> bytes | None:
        """Bytes under a key; None if there are none."""

    async def read_many(self, keys: Sequence[str]) -> Sequence[bytes | AbsorbError | None]:
        """Bytes under each key, or why they cannot be read; None where nothing usable is."""

    async def read_pointers(self) -> dict[str, bytes | None]:
        """Name of every published model -> bytes of its generation pointer."""

    async def announce(self, service: str, loaded: bytes, ttl_s: int) -> None:
        """Say what a service has loaded; forgotten after `ttl_s` seconds."""

    async def close(self) -> None:
        """Let go of every connection."""


class RedisStore:
    """A Redis-compatible server. Connects on first use, so it may be down when this is made."""

    def __init__(self, url: str, timeout_s: float) -> None:
        """Make the client.

        Args:
            url: as redis-py understands it (`resolve_cache_url`).
            timeout_s: seconds for one `read`, waiting for a connection and connecting included.
        """
        self._name = redact_url(url)
        self._timeout_s = timeout_s
        self._redis = connect(parse_url(url))

    async def read(self, key: str) -> bytes | None:
        """Bytes under a key; None if there are none.

        Raises:
            CacheUnavailableError: no answer in time, or an error for one.
            CorruptRecordError: the key holds something else than bytes.
        """
        return await ask(self._get(key), self._timeout_s, self._name)

    async def read_many(self, keys: Sequence[str]) -> Sequence[bytes | AbsorbError | None]:
        """Bytes under each key, in one round trip; None where there are none, or something else than bytes.

        Raises:
            CacheUnavailableError: no answer in time, or an error for one.
        """
        return await ask(self._mget(keys), self._timeout_s, self._name) if keys else []

    async def read_pointers(self) -> dict[str, bytes | None]:
        """Name of every published model -> bytes of its generation pointer (None: there is none).

        Raises:
            CacheUnavailableError: no answer in time, or an error for one.
        """
        return await ask(self._pointers(), CONTROL_TIMEOUT_S, self._name)

    async def announce(self, service: str, loaded: bytes, ttl_s: int) -> None:
        """Say what a service has loaded (`presence_key`); forgotten after `ttl_s` seconds.

        Raises:
            CacheUnavailableError: no answer in time, or an error for one: the service may have no right to write.
        """
        async with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.sadd(SERVICES_KEY, service)
            pipeline.set(presence_key(service), loaded, ex=ttl_s)
            await ask(pipeline.execute(), CONTROL_TIMEOUT_S, self._name)

    async def _get(self, key: str) -> bytes | None:
        return cast(bytes | None, await self._redis.get(key))

    async def _mget(self, keys: Sequence[str]) -> list[bytes | None]:
        return cast(list[bytes | None], await self._redis.mget(keys))

    async def _pointers(self) -> dict[str, bytes | None]:
        members = cast(set[bytes], await self._redis.smembers(MODELS_KEY))
        names = sorted(name.decode(errors="replace") for name in members)
        found = await self._redis.mget([pointer_key(name) for name in names]) if names else []
        return pointers_by_name(names, found)

    async def close(self) -> None:
        """Let go of every connection."""
        await self._redis.aclose()


def connect(options: Mapping[str, Any]) -> Redis:
    """A client of one server with a pool of its own; connects on first use.

    Args:
        options: as `redis.asyncio.connection.parse_url` finds them in a URL.
    """
    pool = BlockingConnectionPool(
        **options,
        max_connections=MAX_CONNECTIONS,
        timeout=None,
        # With a limit of its own the client sends through asyncio.wait_for, which may swallow our
        # cancellation (Python 3.11): a hung server then held requests for 15 s instead of 20 ms.
        socket_timeout=None,
        # One immediate retry cures the connections that a server's restart has cut; more would only wait.
        retry=Retry(NoBackoff(), 1),
    )
    return Redis.from_pool(pool)


def pointers_by_name(names: Sequence[str], found: Sequence[Any]) -> dict[str, bytes | None]:
    """Model -> bytes of its pointer, from what MGET answers."""
    return dict(zip(names, cast(Sequence[bytes | None], found), strict=True))


async def ask(answer: Awaitable[Result], timeout_s: float, name: str) -> Result:
    """Wait for an answer of the cache, and make its errors ours.

    Args:
        answer: awaited at once; cancelled when its time is over.
        timeout_s: seconds, connecting included.
        name: of the cache, for errors.

    Raises:
        CacheUnavailableError: no answer in time, or an error for one.
        CorruptRecordError: the key holds something else than bytes.
    """
    try:
        async with asyncio.timeout(timeout_s):
            return await answer
    except TimeoutError as error:
        raise CacheUnavailableError(name, f"no answer in {1000 * timeout_s:.0f} ms") from error
    except ResponseError as error:
        if str(error).startswith("WRONGTYPE"):
            raise CorruptRecordError("the key holds something else than bytes") from error
        raise CacheUnavailableError(name, str(error)) from error
    except (RedisError, OSError) as error:
        raise CacheUnavailableError(name, str(error)) from error
