"""Reads from a Redis Cluster: each record from the node that holds it.

A node that is down or hangs must affect only the users whose records it holds. redis-py's asyncio `RedisCluster` does
not give that: after an error of one node, the next command to any node reloads the slot map of the whole cluster under
one lock, and a time limit that expires meanwhile closes the connections to every node. Therefore this store loads the
slot map in the background and has one connection pool per node.

A cluster without replicas needs `cluster-require-full-coverage no`; otherwise its servers reject every request while
one of them is down.
"""

import asyncio
import logging
from bisect import bisect_right
from collections.abc import Awaitable, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection, parse_url
from redis.crc import key_slot
from redis.exceptions import AskError, ConnectionError, MovedError, RedisError, ResponseError

from models.contract.announcement import SERVICES_KEY, heartbeat_key
from models.contract.cache_url import redact_url, split_cluster_url
from models.contract.errors import AbsorbError, CacheUnavailableError
from models.contract.generation import (
    DEFAULT_KEY,
    MAX_MODEL_NAME,
    MAX_POINTER_BYTES,
    MODELS_KEY,
    model_names,
    pointer_key,
)
from models.live.follow_status import follower_names
from models.live.keys import FOLLOWERS_KEY, follower_key
from service.store.redis import (
    CONTROL_TIMEOUT_S,
    MAX_PIPELINE,
    Keyed,
    ask,
    make_client,
    new_connection,
    pointers_by_name,
    require_few_models,
)

MAX_REDIRECTS = 5
"""Same limit as in redis-py and go-redis."""
MAP_TIMEOUT_S = 1.0
"""Time limit for one node to return the slot map; then the next node is asked."""
MIN_MAP_AGE_S = 1.0
"""Least time between two loads of the slot map, however many reads fail."""

log = logging.getLogger(__name__)
Address = tuple[str, int]


class ClusterStore:
    """A cluster of any number of nodes. Connects on first use, so it may be down when this object is made.

    Attributes:
        name: names the cache in errors, without its password.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        """Make the store, without connecting.

        Args:
            url: `redis+cluster://` or `rediss+cluster://` with the address of any node.
            timeout_s: seconds for one `read`, including redirections, connecting, and the first load of the slot map.
        """
        self.name = redact_url(url)
        self._timeout_s = timeout_s
        options: dict[str, Any] = dict(parse_url(split_cluster_url(url)[0]))
        self._seed = (str(options.pop("host", "localhost")), int(options.pop("port", 6379)))
        self._options = options
        self._clients: dict[Address, Redis] = {}
        self._map = _SlotMap([])
        self._learning: asyncio.Task[None] | None = None
        self._learned_s = 0.0

    async def read(self, key: str) -> bytes | None:
        """Bytes under a key; None if the key does not exist.

        Raises:
            CacheUnavailableError: no answer of the key's node in time, or the answer is an error.
            CorruptRecordError: the key holds a value that is not a string.
        """
        value: bytes | None = await self._limited(self._send(key, "GET", key), self._timeout_s)
        return value

    async def read_many(self, keys: Sequence[str]) -> Sequence[bytes | AbsorbError | None]:
        """Bytes under each key, or why they cannot be read; None for a key that does not exist.

        The keys are on several nodes; a node that is down does not affect the keys of the others.
        """
        return await asyncio.gather(*(self._try_read(key) for key in keys))

    async def _try_read(self, key: str) -> bytes | AbsorbError | None:
        try:
            return await self.read(key)
        except AbsorbError as error:
            return error

    async def read_pointers(self) -> dict[str, bytes | None]:
        """Name of every published model -> first bytes of its generation pointer (`pointers_by_name`).

        Raises:
            CacheUnavailableError: no answer in time, or the answer is an error, or there are too many models.
        """
        pointers: dict[str, bytes | None] = await self._limited(self._pointers(), CONTROL_TIMEOUT_S)
        return pointers

    async def read_default(self) -> bytes:
        """First bytes of the name of the default model; empty if there is none.

        Raises:
            CacheUnavailableError: no answer in time, or the answer is an error.
            CorruptRecordError: the key holds a value that is not a string.
        """
        read = self._send(DEFAULT_KEY, "GETRANGE", DEFAULT_KEY, "0", str(MAX_MODEL_NAME))
        name: bytes = await self._limited(read, CONTROL_TIMEOUT_S)
        return name

    async def read_follow_statuses(self) -> list[bytes]:
        """What each worker that folds events said last (`FollowStatus`); empty: no worker runs.

        Raises:
            CacheUnavailableError: no answer in time, or the answer is an error.
            CorruptRecordError: a key holds a value of another type.
        """
        statuses: list[bytes] = await self._limited(self._follow_statuses(), CONTROL_TIMEOUT_S)
        return statuses

    async def announce(self, service: str, loaded: bytes, ttl_s: int) -> None:
        """Write which generations a service has loaded (`heartbeat_key`); the cache drops it after `ttl_s` seconds.

        Raises:
            CacheUnavailableError: no answer in time, or the answer is an error, such as a missing right to write.
        """
        await self._limited(self._announce(service, loaded, ttl_s), CONTROL_TIMEOUT_S)

    async def execute(self, commands: Sequence[Keyed]) -> list[Any]:
        """Run commands, each on the node of its key: those of one key in order, one after another.

        Raises:
            CacheUnavailableError: no answer in time, or one of the answers is an error.
            CorruptRecordError: a key holds a value of another type.
        """
        answers: list[Any] = await self._limited(self._execute(commands), CONTROL_TIMEOUT_S)
        return answers

    async def _execute(self, commands: Sequence[Keyed]) -> list[Any]:
        if not self._map:
            await asyncio.shield(self._learn())
        places: dict[Address, list[int]] = {}
        for at, (key, _) in enumerate(commands):
            owner = self._map.owner(key_slot(key.encode())) or self._seed
            places.setdefault(owner, []).append(at)
        answers: dict[int, Any] = {}
        parts = (
            self._run_on(address, theirs, commands, answers) for address, theirs in places.items()
        )
        for failed in await asyncio.gather(*parts, return_exceptions=True):
            if failed is not None:
                raise failed
        return [answers[at] for at in range(len(commands))]

    async def _run_on(
        self,
        address: Address,
        places: list[int],
        commands: Sequence[Keyed],
        answers: dict[int, Any],
    ) -> None:
        """Run the commands at some places on a node; those whose slots have moved, one by one where they are now."""
        for start in range(0, len(places), MAX_PIPELINE):
            part = places[start : start + MAX_PIPELINE]
            async with self._client(address).pipeline(transaction=False) as pipeline:
                for at in part:
                    pipeline.execute_command(*commands[at][1])
                found = await pipeline.execute(raise_on_error=False)
            for at, answer in zip(part, found, strict=True):
                if isinstance(answer, AskError):  # MovedError is a subclass
                    answer = await self._send(commands[at][0], *commands[at][1])
                elif isinstance(answer, BaseException):
                    raise answer
                answers[at] = answer

    async def _announce(self, service: str, loaded: bytes, ttl_s: int) -> None:
        key = heartbeat_key(service)
        await self._send(SERVICES_KEY, "SADD", SERVICES_KEY, service)
        await self._send(key, "SET", key, loaded, "EX", str(ttl_s))

    async def connect(self, key: str) -> AbstractConnection:
        """A new connection to the node that holds a key, not connected yet; the caller closes it.

        Loads the slot map first: the caller asks after an error of the connection before, such as a redirection.
        """
        await asyncio.shield(self._learn())
        address = self._map.owner(key_slot(key.encode())) or self._seed
        return new_connection(self._client(address))

    async def close(self) -> None:
        """Close every connection."""
        if self._learning is not None:
            self._learning.cancel()
        for client in self._clients.values():
            await client.aclose()

    async def _pointers(self) -> dict[str, bytes | None]:
        require_few_models(await self._send(MODELS_KEY, "SCARD", MODELS_KEY), self.name)
        names = model_names(await self._send(MODELS_KEY, "SMEMBERS", MODELS_KEY))
        reads = (self._first_bytes(pointer_key(name)) for name in names)
        return pointers_by_name(names, await asyncio.gather(*reads, return_exceptions=True))

    async def _follow_statuses(self) -> list[bytes]:
        members = await self._send(FOLLOWERS_KEY, "SMEMBERS", FOLLOWERS_KEY)
        keys = [follower_key(name) for name in follower_names(members)]
        values = await asyncio.gather(*(self._send(key, "GET", key) for key in keys))
        return [value for value in values if value is not None]

    async def _first_bytes(self, key: str) -> bytes:
        value: bytes = await self._send(key, "GETRANGE", key, "0", str(MAX_POINTER_BYTES))
        return value

    async def _limited(self, answer: Awaitable[Any], timeout_s: float) -> Any:
        try:
            return await ask(answer, timeout_s, self.name)
        except CacheUnavailableError:
            self._learn_soon()  # a replica may have taken over
            raise

    async def _send(self, key: str, *command: str | bytes) -> Any:
        """Send a command to the node that holds `key`, following redirections."""
        if not self._map:
            await asyncio.shield(self._learn())
        address, asking = self._map.owner(key_slot(key.encode())) or self._seed, False
        for _ in range(MAX_REDIRECTS):
            try:
                return await _execute(self._client(address), command, asking)
            except AskError as error:  # MovedError is a subclass
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
            self._clients[address] = make_client({**self._options, "host": host, "port": port})
        return self._clients[address]

    def _learn_soon(self) -> None:
        """Reload the slot map in the background."""
        if asyncio.get_running_loop().time() - self._learned_s > MIN_MAP_AGE_S:
            self._learn()

    def _learn(self) -> "asyncio.Task[None]":
        """The task that loads the slot map; concurrent callers share it."""
        if self._learning is None or self._learning.done():
            self._learning = asyncio.create_task(self._ask_for_map())
            self._learning.add_done_callback(_log_failure)
        return self._learning

    async def _ask_for_map(self) -> None:
        """Ask one node after another until one returns the slot map.

        Raises:
            ConnectionError: no node returns it.
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
            self._map = _SlotMap([_read_range(entry, address) for entry in ranges])
            await self._forget_nodes_gone()
            return
        raise ConnectionError(f"the cluster's slots are unknown: {problem}")

    async def _forget_nodes_gone(self) -> None:
        for address in set(self._clients) - {*self._map.addresses, self._seed}:
            await self._clients.pop(address).aclose()


class _SlotMap:
    """Which node holds which slot. Empty until it is loaded."""

    def __init__(self, ranges: list[tuple[int, int, Address]]) -> None:
        self._ranges = sorted(ranges)
        self._firsts = [first for first, _, _ in self._ranges]

    def __bool__(self) -> bool:
        return bool(self._ranges)

    @property
    def addresses(self) -> list[Address]:
        """Every node, without repetition."""
        return list(dict.fromkeys(address for _, _, address in self._ranges))

    def owner(self, slot: int) -> Address | None:
        """The node that holds `slot`; None if no node holds it."""
        place = bisect_right(self._firsts, slot) - 1
        if place < 0 or slot > self._ranges[place][1]:
            return None
        return self._ranges[place][2]


async def _execute(client: Redis, command: tuple[str | bytes, ...], asking: bool) -> Any:
    if not asking:
        return await client.execute_command(*command)  # type: ignore[no-untyped-call]
    async with client.pipeline(transaction=False) as pipeline:
        pipeline.execute_command("ASKING")  # applies to the next command on the same connection
        pipeline.execute_command(*command)
        return (await pipeline.execute())[1]


def _read_range(entry: Any, source: Address) -> tuple[int, int, Address]:
    """First slot, last slot and primary of an entry of CLUSTER SLOTS; an empty host means `source`, which answered."""
    first, last, (host, port, *_) = entry[:3]
    name = host.decode() if isinstance(host, bytes) else host
    return int(first), int(last), (name or source[0], int(port))


def _log_failure(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.warning("the slot map cannot be loaded", extra={"error": str(error)})
