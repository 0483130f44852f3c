"""HTTP/1.1 as bytes over a socket: little enough to be fast, and nothing hidden about what came back."""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass

import orjson

READ_LIMIT_BYTES = 1 << 20


@dataclass(frozen=True)
class Reply:
    """One whole answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> object:
        """The body.

        Raises:
            ValueError: it is no JSON.
        """
        return orjson.loads(self.body)


class TornAnswerError(ConnectionError):
    """The connection closed in the middle of an answer."""


class Connection:
    """One connection that is kept alive."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._is_free = True

    @property
    def is_open(self) -> bool:
        """It can carry another request, as far as is known here."""
        return self._is_free and not self._reader.at_eof()

    @classmethod
    async def open(cls, port: int) -> "Connection":
        """Connect to a port of this machine.

        Raises:
            OSError: nobody listens.
        """
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=READ_LIMIT_BYTES))

    async def ask(self, request: bytes) -> Reply:
        """Send a request as it is and read the answer.

        Raises:
            OSError: the connection broke, or was closed, before the whole answer came.
        """
        self._is_free = False  # until the whole answer is there
        self._writer.write(request)
        await self._writer.drain()
        return await self.read()

    async def send(self, part: bytes) -> None:
        """Send some bytes.

        Raises:
            OSError: the connection is closed.
        """
        self._writer.write(part)
        await self._writer.drain()

    async def read(self) -> Reply:
        """Read one answer.

        Raises:
            TornAnswerError: the connection broke, or was closed, in the middle of it.
            OSError: likewise, before its first byte.
        """
        head = await self._receive(self._reader.readuntil(b"\r\n\r\n"), is_begun=False)
        status, headers = parse_head(head)
        size = int(headers.get("content-length", "0"))
        body = await self._receive(self._reader.readexactly(size), is_begun=True)
        self._is_free = headers.get("connection", "").lower() != "close"
        return Reply(status, headers, body)

    async def _receive(self, reading: Awaitable[bytes], is_begun: bool) -> bytes:
        try:
            return await reading
        except asyncio.IncompleteReadError as error:
            text = f"closed after {len(error.partial)} of {error.expected or 'the head'} bytes"
            if error.partial or is_begun:
                raise TornAnswerError(text) from error
            raise ConnectionResetError("closed before the answer") from error

    def close(self) -> None:
        """Close, politely."""
        self._is_free = False
        self._writer.close()

    def abort(self) -> None:
        """Vanish: whatever is buffered is thrown away."""
        self._is_free = False
        self._writer.transport.abort()


def parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    """Status and headers, their names in lower case."""
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines if line)
    return int(first.split(" ", 2)[1]), {name.lower(): value.strip() for name, _, value in pairs}


def post(path: str, body: bytes, *headers: str) -> bytes:
    """A whole POST request."""
    lines = [f"POST {path} HTTP/1.1", "Host: chaos", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "Content-Type: application/json", "", ""]).encode() + body


def get(path: str) -> bytes:
    """A whole GET request."""
    return f"GET {path} HTTP/1.1\r\nHost: chaos\r\n\r\n".encode()


async def fetch(port: int, request: bytes, limit_s: float = 10.0) -> Reply:
    """Ask once, over a connection of its own.

    Raises:
        OSError: no connection, no whole answer, or none in time (TimeoutError is one).
    """
    async with asyncio.timeout(limit_s):
        connection = await Connection.open(port)
        try:
            return await connection.ask(request)
        finally:
            connection.close()
