"""Reads the stream of changed records: the worker appends an entry after it has written a record.

The feed has one connection of its own, which waits in XREAD. redis-py's pools replace a lost connection without
notice; here a lost connection is an error, since entries may have been lost with it.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

from models.live.keys import CHANGED_KEY
from service.store.redis import CONTROL_TIMEOUT_S, ask

MAX_ENTRIES = 1000
"""Most entries of one read: dropping them takes a few milliseconds of the event loop's time."""

Position = tuple[int, int]
"""Id of an entry: epoch milliseconds and a sequence number."""
START: Position = (0, 0)


@dataclass(frozen=True)
class Changes:
    """Result of one read.

    Attributes:
        entries: position and fields of each new entry, oldest first.
        first: position of the oldest entry that the stream holds after the read; None: it holds none.
        last: position of the newest entry that was ever added; None: there is no stream.
        length: number of entries that the stream holds.
        added: number of entries that were ever added.
    """

    entries: Sequence[tuple[Position, Mapping[bytes, bytes]]]
    first: Position | None
    last: Position | None
    length: int
    added: int


class ChangeFeed:
    """The stream of changed records of one cache. Connects on first use."""

    def __init__(self, connect: Callable[[str], Awaitable[AbstractConnection]], name: str) -> None:
        """Make the feed, without connecting.

        Args:
            connect: makes a connection to the server that holds a key; the feed owns it.
            name: names the cache in errors.
        """
        self._connect = connect
        self._name = name
        self._connection: AbstractConnection | None = None

    async def position(self) -> Position:
        """Position of the newest entry that was ever added.

        Raises:
            CacheUnavailableError: no answer in time, or the answer is an error, such as a missing right.
            CorruptRecordError: the key holds no stream.
        """
        (information,) = await self._send([("XINFO", "STREAM", CHANGED_KEY)], CONTROL_TIMEOUT_S)
        return _read_changes(None, information).last or START

    async def read(self, after: Position, wait_s: float) -> Changes:
        """Wait for entries after a position, for at most `wait_s` seconds.

        Raises:
            CacheUnavailableError: no answer in time, the connection was lost, or the answer is an error.
            CorruptRecordError: the key holds no stream.
        """
        cursor = f"{after[0]}-{after[1]}"
        wait_ms = str(round(1000 * wait_s))
        wait = ("XREAD", "COUNT", MAX_ENTRIES, "BLOCK", wait_ms, "STREAMS", CHANGED_KEY, cursor)
        commands = [wait, ("XINFO", "STREAM", CHANGED_KEY)]
        entries, information = await self._send(commands, wait_s + CONTROL_TIMEOUT_S)
        return _read_changes(entries, information)

    async def _send(self, commands: Sequence[tuple[Any, ...]], timeout_s: float) -> list[Any]:
        try:
            return await ask(self._exchange(commands), timeout_s, self._name)
        except BaseException:
            await self.close()  # an answer may still be on its way
            raise

    async def _exchange(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        if self._connection is None:
            self._connection = await self._connect(CHANGED_KEY)
            await self._connection.connect()  # type: ignore[no-untyped-call]
        connection = self._connection
        # In one round trip; the server answers the second command after the wait of the first.
        await connection.send_packed_command(connection.pack_commands(commands))
        return [await _answer(connection) for _ in commands]

    async def close(self) -> None:
        """Close the connection; the next read makes a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)


async def _answer(connection: AbstractConnection) -> Any:
    try:
        return await connection.read_response()
    except ResponseError as error:
        if str(error).startswith("no such key"):
            return None
        raise


def _read_changes(entries: Any, information: Any) -> Changes:
    """Read the answers of XREAD and XINFO STREAM, whose form depends on the version of the protocol."""
    if entries:
        (entries,) = entries.values() if isinstance(entries, dict) else [entries[0][1]]
    if isinstance(information, list):
        information = dict(zip(information[::2], information[1::2], strict=True))
    facts = information or {}
    first, last = facts.get(b"first-entry"), facts.get(b"last-generated-id")
    length = int(facts.get(b"length", 0))
    return Changes(
        [(_position(name), _fields(flat)) for name, flat in entries or ()],
        first and _position(first[0]),
        last and _position(last),
        length,
        int(facts.get(b"entries-added", length)),
    )


def _position(name: bytes) -> Position:
    milliseconds, _, number = name.partition(b"-")
    return int(milliseconds), int(number)


def _fields(flat: Any) -> Mapping[bytes, bytes]:
    """Fields of an entry; none for one that was deleted meanwhile."""
    return dict(zip(flat[::2], flat[1::2], strict=True)) if flat else {}
