"""Removes a user from the cache for `DELETE /v1/users/{id}`, with a client of its own: it takes many commands."""

import asyncio
from dataclasses import dataclass

from redis import Redis, RedisCluster
from redis.exceptions import NoPermissionError, RedisClusterException, RedisError

from models.contract.cache_url import redact_url, split_cluster_url
from models.contract.errors import CacheUnavailableError
from models.live.forget import Removed, forget_in_cache
from models.live.keys import tombstone
from models.live.tombstones import is_forgotten

LIMIT_S = 10.0
"""Most seconds for one command of the removal."""


@dataclass(frozen=True)
class Forgotten:
    """A user who has a tombstone.

    Attributes:
        user: `tombstone` of the user.
        removed: what was removed; None: the cache gives this service no right to remove.
    """

    user: str
    removed: Removed | None


class Forgetting:
    """Forgets users in one cache. Connects for each user: that is rare."""

    def __init__(self, url: str) -> None:
        """Store the address.

        Args:
            url: URL that redis-py understands (`resolve_cache_url`), or of a node of a cluster.
        """
        self._url = url

    async def forget(self, user_id: str) -> Forgotten:
        """Write the tombstone, and remove what the cache holds.

        Raises:
            CacheUnavailableError: the cache does not answer, or refuses the tombstone. The same request may come again.
        """
        return await asyncio.to_thread(self._forget, user_id)

    def _forget(self, user_id: str) -> Forgotten:
        name = redact_url(self._url)
        try:
            with _client(self._url) as client:
                return _forget_with(client, user_id)
        except (RedisError, RedisClusterException, OSError) as error:
            raise CacheUnavailableError(name, _reason(error)) from error


def _client(url: str) -> Redis | RedisCluster:
    plain, is_cluster = split_cluster_url(url)
    if is_cluster:
        return RedisCluster.from_url(plain, socket_timeout=LIMIT_S, socket_connect_timeout=LIMIT_S)
    return Redis.from_url(plain, socket_timeout=LIMIT_S, socket_connect_timeout=LIMIT_S)


def _forget_with(client: Redis | RedisCluster, user_id: str) -> Forgotten:
    try:
        return Forgotten(tombstone(user_id), forget_in_cache(client, user_id))
    except NoPermissionError:
        if not is_forgotten(client, user_id):
            raise
        return Forgotten(tombstone(user_id), None)


def _reason(error: Exception) -> str:
    """Why, without a key of the cache: it would name the user."""
    if isinstance(error, NoPermissionError):
        return "the cache does not let this service write tombstones"
    return type(error).__name__
