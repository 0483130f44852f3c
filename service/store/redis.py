"""Reads from the cache, a Redis or Valkey server. Redis' own errors become `CacheUnavailableError` here."""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Protocol, TypeVar, cast

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from models.contract.announcement import SERVICES_KEY, heartbeat_key
from models.contract.cache_url import redact_url
from models.contract.errors import AbsorbError, CacheUnavailableError, CorruptRecordError
from models.contract.generation import (
    DEFAULT_KEY,
    MAX_MODEL_NAME,
    MAX_MODELS,
    MAX_POINTER_BYTES,
    MODELS_KEY,
    model_names,
    pointer_key,
)
from models.live.follow_status import follower_names
from models.live.keys import FOLLOWERS_KEY, follower_key

MAX_CONNECTIONS = 64
CONTROL_TIMEOUT_S = 2.0
"""Time limit for pointers and announcements, which no request waits for."""
MAX_PIPELINE = 100
"""Commands sent at once: while they are packed and their answers read, the event loop does nothing else."""
WRONG_TYPE = "WRONGTYPE"
"""How a server begins its answer to a command for a string where the key holds something else."""

Keyed = tuple[str, tuple[str | bytes, ...]]
"""A command, and the key that says on which node of a cluster it runs."""
Result = TypeVar("Result")


class StateStore(Protocol):
    """What the service does with a cache.

    Attributes:
        name: names the cache in errors, without its password.
    """

    name: str

    async def connect(self, key: str) -> AbstractConnection:
        """A new connection to the server that holds a key, not connected yet; the caller closes it."""

    async def read(self, key: str) -> bytes | None:
        """Bytes under a key; None if the key does not exist."""

    async def read_many(self, keys: Sequence[str]) -> Sequence[bytes | AbsorbError | None]:
        """Bytes under each key, or why they cannot be read; None for a key without a usable value."""

    async def read_pointers(self) -> dict[str, bytes | None]:
        """Name of every published model -> bytes of its generation pointer."""

    async def read_default(self) -> bytes:
        """First bytes of the name of the default model; empty if there is none."""

    async def read_follow_statuses(self) -> list[bytes]:
        """What each worker that folds events said last (`FollowStatus`); empty: no worker runs."""

    async def announce(self, service: str, loaded: bytes, ttl_s: int) -> None:
        """Write which generations a service has loaded; the cache drops it after `ttl_s` seconds."""

    async def close(self) -> None:
        """Close every connection."""


class RedisStore:
    """One Redis-compatible server. Connects on first use, so the server may be down when this object is made.

    Attributes:
        name: names the cache in errors, without its password.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        """Make the client, without connecting.

        Args:
            url: URL that redis-py understands (`resolve_cache_url`).
            timeout_s: seconds for one `read`, waiting for a connection and connecting included.
        """
        self.name = redact_url(url)
        self._timeout_s = timeout_s
        self._redis = make_client(parse_url(url))

    async def read(self, key: str) -> bytes | None:
        """Bytes under a key; None if the key does not exist.

        Raises:
            CacheUnavailableError: no answer in time, or the answer is an error.
            CorruptRecordError: the key holds a value that is not a string.
        """
        return await ask(self._get(key), self._timeout_s, self.name)

    async def read_many(self, keys: Sequence[str]) -> Sequence[bytes | AbsorbError | None]:
        """Bytes under each key, in one round trip; None for a key that does not exist or holds no string.

        Raises:
            CacheUnavailableError: no answer in time, or the answer is an error.
        """
        return await ask(self._mget(keys), self._timeout_s, self.name) if keys else []

    async def read_pointers(self) -> dict[str, bytes | None]:
        """Name of every published model -> first bytes of its generation pointer (`pointers_by_name`).

        Raises:
            CacheUnavailableError: no answer in time, or the answer is an error, or there are too many models.
        """
        return await ask(self._pointers(), CONTROL_TIMEOUT_S, self.name)

    async def read_default(self) -> bytes:
        """First bytes of the name of the default model; empty if there is none.

        Raises:
            CacheUnavailableError: no answer in time, or the answer is an error.
            CorruptRecordError: the key holds a value that is not a string.
        """
        return await ask(self._default(), CONTROL_TIMEOUT_S, self.name)

    async def read_follow_statuses(self) -> list[bytes]:
        """What each worker that folds events said last (`FollowStatus`); empty: no worker runs.

        Raises:
            CacheUnavailableError: no answer in time, or the answer is an error.
            CorruptRecordError: a key holds a value of another type.
        """
        return await ask(self._follow_statuses(), CONTROL_TIMEOUT_S, self.name)

    async def announce(self, service: str, loaded: bytes, ttl_s: int) -> None:
        """Write which generations a service has loaded (`heartbeat_key`); the cache drops it after `ttl_s` seconds.

        Raises:
            CacheUnavailableError: no answer in time, or the answer is an error, such as a missing right to write.
        """
        async with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.sadd(SERVICES_KEY, service)
            pipeline.set(heartbeat_key(service), loaded, ex=ttl_s)
            await ask(pipeline.execute(), CONTROL_TIMEOUT_S, self.name)

    async def execute(self, commands: Sequence[Keyed]) -> list[Any]:
        """Run commands in order, in a round trip per hundred. No transaction: after an error, others may have run.

        Raises:
            CacheUnavailableError: no answer in time, or one of the answers is an error.
            CorruptRecordError: a key holds a value of another type.
        """
        answers: list[Any] = await ask(self._execute(commands), CONTROL_TIMEOUT_S, self.name)
        return answers

    async def _execute(self, commands: Sequence[Keyed]) -> list[Any]:
        answers: list[Any] = []
        for start in range(0, len(commands), MAX_PIPELINE):
            async with self._redis.pipeline(transaction=False) as pipeline:
                for _, command in commands[start : start + MAX_PIPELINE]:
                    pipeline.execute_command(*command)
                answers += await pipeline.execute()
        return answers

    async def _get(self, key: str) -> bytes | None:
        return cast(bytes | None, await self._redis.get(key))

    async def _mget(self, keys: Sequence[str]) -> list[bytes | None]:
        return cast(list[bytes | None], await self._redis.mget(keys))

    async def _default(self) -> bytes:
        return cast(bytes, await self._redis.getrange(DEFAULT_KEY, 0, MAX_MODEL_NAME))

    async def _pointers(self) -> dict[str, bytes | None]:
        require_few_models(await self._redis.scard(MODELS_KEY), self.name)
        names = model_names(cast(set[bytes], await self._redis.smembers(MODELS_KEY)))
        async with self._redis.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.getrange(pointer_key(name), 0, MAX_POINTER_BYTES)
            return pointers_by_name(names, await pipeline.execute(raise_on_error=False))

    async def _follow_statuses(self) -> list[bytes]:
        names = follower_names(cast(set[bytes], await self._redis.smembers(FOLLOWERS_KEY)))
        values = await self._mget([follower_key(name) for name in names]) if names else []
        return [value for value in values if value is not None]

    async def connect(self, _: str) -> AbstractConnection:
        """A new connection, not connected yet; the caller closes it."""
        return new_connection(self._redis)

    async def close(self) -> None:
        """Close every connection."""
        await self._redis.aclose()


def make_client(options: Mapping[str, Any]) -> Redis:
    """A client of one server with its own connection pool; connects on first use.

    Args:
        options: connection options, as `redis.asyncio.connection.parse_url` returns them.
    """
    pool = BlockingConnectionPool(
        **options,
        max_connections=MAX_CONNECTIONS,
        timeout=None,
        # With a socket timeout, redis-py sends through asyncio.wait_for, which may swallow our
        # cancellation (Python 3.11): a hung server then held requests for 15 s instead of 20 ms.
        socket_timeout=None,
        # One immediate retry replaces connections that a server's restart has closed; more would only wait.
        retry=Retry(NoBackoff(), 1),
    )
    return Redis.from_pool(pool)


def new_connection(client: Redis) -> AbstractConnection:
    """A connection with a client's options that is in no pool, not connected yet."""
    connection: AbstractConnection = client.connection_pool.make_connection()  # type: ignore[no-untyped-call]
    return connection


def require_few_models(num_models: int, name: str) -> None:
    """Refuse a list of models that would stop the event loop while it is read.

    Raises:
        CacheUnavailableError: there are more than `MAX_MODELS`.
    """
    if num_models > MAX_MODELS:
        reason = f"{MODELS_KEY}: got {num_models} models, expected at most {MAX_MODELS}"
        raise CacheUnavailableError(name, reason)


def pointers_by_name(
    names: Sequence[str], values: Sequence[bytes | BaseException]
) -> dict[str, bytes | None]:
    """Model -> first bytes of its pointer; None: the key is missing, empty, or no string.

    Args:
        names: names of models.
        values: answer of GETRANGE for each, which does not tell a missing key from an empty one.

    Raises:
        BaseException: an error among the values, unless it says that the key is no string.
    """
    pointers: dict[str, bytes | None] = {}
    for name, value in zip(names, values, strict=True):
        if isinstance(value, BaseException) and not str(value).startswith(WRONG_TYPE):
            raise value
        pointers[name] = value if isinstance(value, bytes) and value else None
    return pointers


async def ask(answer: Awaitable[Result], timeout_s: float, name: str) -> Result:
    """Wait for an answer of the cache, and translate its errors.

    Args:
        answer: awaited at once; cancelled at the time limit.
        timeout_s: time limit in seconds, connecting included.
        name: names the cache in errors.

    Raises:
        CacheUnavailableError: no answer in time, or the answer is an error.
        CorruptRecordError: the key holds a value that is not a string.
    """
    try:
        async with asyncio.timeout(timeout_s):
            return await answer
    except TimeoutError as error:
        raise CacheUnavailableError(name, f"no answer in {1000 * timeout_s:.0f} ms") from error
    except ResponseError as error:
        if str(error).startswith(WRONG_TYPE):
            raise CorruptRecordError("the key holds a value that is not a string") from error
        raise CacheUnavailableError(name, str(error)) from error
    except (RedisError, OSError) as error:
        raise CacheUnavailableError(name, str(error)) from error
