"""Thousands of commands at once on one connection: their bytes, and the lines of their answers (RESP 2).

redis-py spends 10 to 20 µs of CPU time per command in a pipeline, and twice as much in a cluster: more than the server.
Here, a command is one formatted string, and its answer one line.
"""

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from redis import Redis, RedisCluster
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection
from redis.retry import Retry

SEND_BYTES = 1 << 20
"""The time limit of a connection is one for each part of this size."""
RECEIVE_BYTES = 1 << 16
KEPT_OPTIONS = (
    "host", "port", "path", "db", "username", "password", "credential_provider", "socket_timeout",
    "socket_connect_timeout",
)  # fmt: skip
"""Options of a client that a connection of a writer has, too, beside those of TLS. No server pushes anything to it."""
Address = tuple[str, int]


def packed(*parts: bytes) -> bytes:
    """A command."""
    head = b"*%d\r\n" % len(parts)
    return head + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


def packed_set(key: bytes, value: bytes) -> bytes:
    """A SET."""
    return b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(key), key, len(value), value)


@dataclass(frozen=True)
class Servers:
    """How to reach the servers of a cache, from any process.

    Attributes:
        kind: class of the connections.
        options: of the connections; host and port are replaced by those of a server.
        seeds: servers that are known: the one, or the primaries of a cluster. Of no meaning for a Unix socket.
        is_cluster: whether others may be named by these.
        num_retries: how often a command is tried again.
    """

    kind: type[AbstractConnection]
    options: Mapping[str, Any]
    seeds: tuple[Address, ...]
    is_cluster: bool
    num_retries: int

    @classmethod
    def of(cls, client: Redis | RedisCluster, num_retries: int) -> "Servers":
        """The servers that a client is connected to."""
        if isinstance(client, RedisCluster):
            nodes = client.get_primaries()  # type: ignore[no-untyped-call]
            pool = client.get_redis_connection(nodes[0]).connection_pool
            seeds = tuple((node.host, node.port) for node in nodes)
        else:
            pool = client.connection_pool
            known = pool.connection_kwargs
            seeds = ((known.get("host", ""), known.get("port", 0)),)
        options = {
            name: value
            for name, value in pool.connection_kwargs.items()
            if name in KEPT_OPTIONS or name.startswith("ssl")
        }
        is_cluster = isinstance(client, RedisCluster)
        return cls(pool.connection_class, options, seeds, is_cluster, num_retries)

    def connect(self, address: Address) -> "Link":
        """A connection to one of the servers.

        Raises:
            RedisError: it cannot be reached.
        """
        place = dict(zip(("host", "port"), address, strict=True)) if address[0] else {}
        retry = Retry(NoBackoff(), 0)
        return Link(self.kind(**{**self.options, **place, "protocol": 2, "retry": retry}))


class Link:
    """A connection to one server, for commands that are answered by one line."""

    def __init__(self, connection: AbstractConnection) -> None:
        self._connection = connection
        connection.connect()  # type: ignore[no-untyped-call]

    @property
    def _socket(self) -> socket.socket:
        # redis-py connects, authenticates and speaks TLS; it has no call that reads lines without parsing each.
        opened: socket.socket | None = self._connection._sock
        if opened is None:
            raise ConnectionError("the connection is closed")
        return opened

    def ask(self, *command: str) -> Any:
        """Send one command, and return its parsed answer, of any kind.

        Raises:
            RedisError: the server answers with an error, or the connection breaks.
        """
        self._connection.send_command(*command)  # type: ignore[no-untyped-call]
        return self._connection.read_response()

    def send(self, commands: bytes) -> None:
        """Send packed commands.

        Raises:
            OSError: the connection breaks, or the server takes too long.
        """
        whole = memoryview(commands)
        for start in range(0, len(whole), SEND_BYTES):
            self._socket.sendall(whole[start : start + SEND_BYTES])

    def lines(self, number: int) -> list[bytes]:
        """Receive as many answers.

        Raises:
            OSError: the connection breaks, or the server takes too long.
        """
        parts, received = [], 0
        while received < number:
            part = self._socket.recv(RECEIVE_BYTES)
            if not part:
                raise ConnectionError("the server closed the connection")
            parts.append(part)
            received += part.count(b"\n")
        lines = b"".join(parts).split(b"\r\n")
        if len(lines) != number + 1 or lines[-1]:
            raise ConnectionError(f"got {len(lines) - 1} answers, expected {number}")
        return lines[:-1]

    def close(self) -> None:
        """Close the connection."""
        self._connection.disconnect()  # type: ignore[no-untyped-call]
