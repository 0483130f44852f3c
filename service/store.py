"""The cache as the service reads it. Redis errors end here: callers see `CacheUnavailableError` only."""

import asyncio
from collections.abc import Awaitable
from typing import Protocol, TypeVar, cast

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from models.cache_server import redact_url
from models.errors import CacheUnavailableError, CorruptRecordError
from models.record import MODELS_KEY, pointer_key

MAX_CONNECTIONS = 64
CONTROL_TIMEOUT_S = 2.0
"""For the pointers, which are read off the hot path."""

Result = TypeVar("Result")


class StateStore(Protocol):
    """What the service needs of a cache."""

    async def read(self, key: str) -> bytes | None:
        """Bytes under a key; None if there are none."""

    async def read_pointers(self) -> dict[str, bytes | None]:
        """Name of every published model -> bytes of its generation pointer."""

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
        # One immediate retry cures the connections that a server's restart has cut; more would only wait.
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=MAX_CONNECTIONS,
            timeout=None,
            # With a limit of its own the client sends through asyncio.wait_for, which may swallow our
            # cancellation (Python 3.11): a hung server then held requests for 15 s instead of 20 ms.
            socket_timeout=None,
            retry=Retry(NoBackoff(), 1),
        )
        self._redis: Redis = Redis.from_pool(pool)

    async def read(self, key: str) -> bytes | None:
        """Bytes under a key; None if there are none.

        Raises:
            CacheUnavailableError: no answer in time, or an error for one.
            CorruptRecordError: the key holds something else than bytes.
        """
        return await self._ask(self._get(key), self._timeout_s)

    async def read_pointers(self) -> dict[str, bytes | None]:
        """Name of every published model -> bytes of its generation pointer (None: there is none).

        Raises:
            CacheUnavailableError: no answer in time, or an error for one.
        """
        return await self._ask(self._pointers(), CONTROL_TIMEOUT_S)

    async def _get(self, key: str) -> bytes | None:
        return cast(bytes | None, await self._redis.get(key))

    async def _pointers(self) -> dict[str, bytes | None]:
        members = cast(set[bytes], await self._redis.smembers(MODELS_KEY))
        names = sorted(name.decode(errors="replace") for name in members)
        found = await self._redis.mget([pointer_key(name) for name in names]) if names else []
        return dict(zip(names, cast(list[bytes | None], found), strict=True))

    async def close(self) -> None:
        """Let go of every connection."""
        await self._redis.aclose()

    async def _ask(self, answer: Awaitable[Result], timeout_s: float) -> Result:
        try:
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError as error:
            reason = f"no answer in {1000 * timeout_s:.0f} ms"
            raise CacheUnavailableError(self._name, reason) from error
        except ResponseError as error:
            if str(error).startswith("WRONGTYPE"):
                raise CorruptRecordError("the key holds something else than bytes") from error
            raise CacheUnavailableError(self._name, str(error)) from error
        except (RedisError, OSError) as error:
            raise CacheUnavailableError(self._name, str(error)) from error
