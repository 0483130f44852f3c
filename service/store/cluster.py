"""A Redis Cluster as the service reads it: each user's record from the node that holds it, and from no other.

Not redis-py's asyncio `RedisCluster`: there an error of one node makes the next command, whosever it is, learn the
whole cluster again under one lock, and a time limit that ends meanwhile closes every node's connections. One node that
is down or hangs must cost its own users their records, and nobody else anything. So the map of slots is learned here,
off the hot path, and each node has a connection pool of its own.

A cluster without replicas needs `cluster-require-full-coverage no`, or its servers refuse everybody when one is down.
"""

import asyncio
import logging
from bisect import bisect_right
from collections.abc import Awaitable, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.connection import parse_url
from redis.crc import key_slot
from redis.exceptions import AskError, ConnectionError, MovedError, RedisError, ResponseError

from models.contract.cache_url import redact_url, split_cluster_url
from models.contract.errors import AbsorbError, CacheUnavailableError
from models.contract.generation import MODELS_KEY, SERVICES_KEY, pointer_key, presence_key
from service.store.redis import CONTROL_TIMEOUT_S, ask, connect, pointers_by_name

MAX_REDIRECTS = 5
"""As many as redis-py's and go-redis's clients follow, at most."""
MAP_TIMEOUT_S = 1.0
"""For one node to describe the cluster; then the next is asked."""
MIN_MAP_AGE_S = 1.0
"""The map is not learned more often, however many reads fail."""

log = logging.getLogger(__name__)
Address = tuple[str, int]


class ClusterStore:
    """Any number of nodes. Connects on first use, so the cluster may be down when this is made."""

    def __init__(self, url: str, timeout_s: float) -> None:
        """Keep where the cluster is.

        Args:
            url: `redis+cluster://` or `rediss+cluster://`, of any one node.
            timeout_s: seconds for one `read`: redirections and connecting included, and the first map of slots.
        """
        self._name = redact_url(url)
        self._timeout_s = timeout_s
        options: dict[str, Any] = dict(parse_url(split_cluster_url(url)[0]))
        self._seed = (str(options.pop("host", "localhost")), int(options.pop("port", 6379)))
        self._options = options
        self._clients: dict[Address, Redis] = {}
        self._map = _SlotMap([])
        self._learning: asyncio.Task[None] | None = None
        self._learned_s = 0.0

    async def read(self, key: str) -> bytes | None:
        """Bytes under a key; None if there are none.

        Raises:
            CacheUnavailableError: no answer of the key's node in time, or an error for one.
            CorruptRecordError: the key holds something else than bytes.
        """
        value: bytes | None = await self._limited(self._send(key, "GET", key), self._timeout_s)
        return value

    async def read_many(self, keys: Sequence[str]) -> Sequence[bytes | AbsorbError | None]:
        """Bytes under each key, or why they cannot be read; None where there are none.

        The keys lie on several nodes: one that is down leaves the others' keys readable.
        """
        return await asyncio.gather(*(self._try_read(key) for key in keys))

    async def _try_read(self, key: str) -> bytes | AbsorbError | None:
        try:
            return await self.read(key)
        except AbsorbError as error:
            return error

    async def read_pointers(self) -> dict[str, bytes | None]:
        """Name of every published model -> bytes of its generation pointer (None: there is none).

        Raises:
            CacheUnavailableError: no answer in time, or an error for one.
        """
        found: dict[str, bytes | None] = await self._limited(self._pointers(), CONTROL_TIMEOUT_S)
        return found

    async def announce(self, service: str, loaded: bytes, ttl_s: int) -> None:
        """Say what a service has loaded (`presence_key`); forgotten after `ttl_s` seconds.

        Raises:
            CacheUnavailableError: no answer in time, or an error for one: the service may have no right to write.
        """
        await self._limited(self._announce(service, loaded, ttl_s), CONTROL_TIMEOUT_S)

    async def _announce(self, service: str, loaded: bytes, ttl_s: int) -> None:
        key = presence_key(service)
        await self._send(SERVICES_KEY, "SADD", SERVICES_KEY, service)
        await self._send(key, "SET", key, loaded, "EX", str(ttl_s))

    async def close(self) -> None:
        """Let go of every connection."""
        if self._learning is not None:
            self._learning.cancel()
        for client in self._clients.values():
            await client.aclose()

    async def _pointers(self) -> dict[str, bytes | None]:
        members = await self._send(MODELS_KEY, "SMEMBERS", MODELS_KEY)
        names = sorted(name.decode(errors="replace") for name in members)
        keys = [pointer_key(name) for name in names]  # all in one slot
        return pointers_by_name(names, await self._send(MODELS_KEY, "MGET", *keys) if keys else [])

    async def _limited(self, answer: Awaitable[Any], timeout_s: float) -> Any:
        try:
            return await ask(answer, timeout_s, self._name)
        except CacheUnavailableError:
            self._learn_soon()  # a replica may have taken over
            raise

    async def _send(self, key: str, *command: str | bytes) -> Any:
        """Ask the node that holds `key`, wherever it has moved to."""
        if not self._map:
            await asyncio.shield(self._learn())
        address, asking = self._map.owner(key_slot(key.encode())) or self._seed, False
        for _ in range(MAX_REDIRECTS):
            try:
                return await _execute(self._client(address), command, asking)
            except AskError as error:  # or a MovedError, which is one
                asking = not isinstance(error, MovedError)
                address = (error.host or address[0], error.port)
                if not asking:
                    self._learn_soon()
            except ResponseError:
                raise
            except (RedisError, OSError) as error:
                raise ConnectionError(f"node {address[0]}:{address[1]}: {error}") from error
        raise ConnectionError(f"redirected {MAX_REDIRECTS} times")

    def _client(self, address: Address) -> Redis:
        if address not in self._clients:
            host, port = address
            self._clients[address] = connect({**self._options, "host": host, "port": port})
        return self._clients[address]

    def _learn_soon(self) -> None:
        """Learn the map of slots again, in the background."""
        if asyncio.get_running_loop().time() - self._learned_s > MIN_MAP_AGE_S:
            self._learn()

    def _learn(self) -> "asyncio.Task[None]":
        """The one task that is learning the map: whoever has to wait for it waits for the same."""
        if self._learning is None or self._learning.done():
            self._learning = asyncio.create_task(self._ask_for_map())
            self._learning.add_done_callback(_log_failure)
        return self._learning

    async def _ask_for_map(self) -> None:
        """Ask one node after another until one describes the cluster.

        Raises:
            ConnectionError: none does.
        """
        self._learned_s = asyncio.get_running_loop().time()
        problem = "no node is known"
        for address in dict.fromkeys([*self._clients, *self._map.addresses, self._seed]):
            try:
                async with asyncio.timeout(MAP_TIMEOUT_S):
                    ranges = await _execute(self._client(address), ("CLUSTER SLOTS",), False)
            except (RedisError, OSError, TimeoutError) as error:
                problem = f"node {address[0]}:{address[1]}: {error or 'no answer'}"
                continue
            self._map = _SlotMap([_read_range(one, address) for one in ranges])
            await self._forget_nodes_gone()
            return
        raise ConnectionError(f"the cluster's slots are unknown: {problem}")

    async def _forget_nodes_gone(self) -> None:
        for address in set(self._clients) - {*self._map.addresses, self._seed}:
            await self._clients.pop(address).aclose()


class _SlotMap:
    """Which node holds which slot. Empty: not known."""

    def __init__(self, ranges: list[tuple[int, int, Address]]) -> None:
        self._ranges = sorted(ranges)
        self._firsts = [first for first, _, _ in self._ranges]

    def __bool__(self) -> bool:
        return bool(self._ranges)

    @property
    def addresses(self) -> list[Address]:
        """Every node once."""
        return list(dict.fromkeys(address for _, _, address in self._ranges))

    def owner(self, slot: int) -> Address | None:
        """The node that holds `slot`; None for one that no node holds."""
        place = bisect_right(self._firsts, slot) - 1
        if place < 0 or slot > self._ranges[place][1]:
            return None
        return self._ranges[place][2]


async def _execute(client: Redis, command: tuple[str | bytes, ...], asking: bool) -> Any:
    if not asking:
        return await client.execute_command(*command)  # type: ignore[no-untyped-call]
    async with client.pipeline(transaction=False) as pipeline:  # both on one connection
        pipeline.execute_command("ASKING")
        pipeline.execute_command(*command)
        return (await pipeline.execute())[1]


def _read_range(entry: Any, asked: Address) -> tuple[int, int, Address]:
    """First slot, last slot and primary of an entry of CLUSTER SLOTS; a node without a name has the one asked."""
    first, last, (host, port, *_) = entry[:3]
    name = host.decode() if isinstance(host, bytes) else host
    return int(first), int(last), (name or asked[0], int(port))


def _log_failure(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.warning("the cluster cannot be described", extra={"error": str(error)})
