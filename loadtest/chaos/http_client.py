"""A minimal HTTP/1.1 client: requests are bytes, and broken answers are told apart from missing ones."""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass

import orjson

READ_LIMIT_BYTES = 1 << 20


@dataclass(frozen=True)
class Reply:
    """One complete answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> object:
        """The body as JSON.

        Raises:
            ValueError: the body is not JSON.
        """
        return orjson.loads(self.body)


class TornAnswerError(ConnectionError):
    """The connection closed in the middle of an answer."""


class Connection:
    """One kept-alive connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._is_free = True

    @property
    def is_open(self) -> bool:
        """Whether another request can be sent, as far as this side knows."""
        return self._is_free and not self._reader.at_eof()

    @classmethod
    async def open(cls, port: int) -> "Connection":
        """Connect to a port of this machine.

        Raises:
            OSError: no process listens on the port.
        """
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=READ_LIMIT_BYTES))

    async def send_and_read(self, request: bytes) -> Reply:
        """Send a request and read the answer.

        Raises:
            OSError: the connection ended before the complete answer.
        """
        self._is_free = False  # until the complete answer is read
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
            TornAnswerError: the connection ended in the middle of the answer.
            OSError: the connection ended before the first byte.
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
        """Close after what is buffered is sent."""
        self._is_free = False
        self._writer.close()

    def abort(self) -> None:
        """Close at once; what is buffered is dropped."""
        self._is_free = False
        self._writer.transport.abort()


def parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    """Status and headers, their names in lower case."""
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines if line)
    return int(first.split(" ", 2)[1]), {name.lower(): value.strip() for name, _, value in pairs}


def post(path: str, body: bytes, *headers: str) -> bytes:
    """A complete POST request."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "Content-Type: application/json", "", ""]).encode() + body


def get(path: str) -> bytes:
    """A complete GET request."""
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


async def fetch(port: int, request: bytes, limit_s: float = 10.0) -> Reply:
    """Send one request over a new connection.

    Raises:
        OSError: no connection, no complete answer, or none in time (TimeoutError is an OSError).
    """
    async with asyncio.timeout(limit_s):
        connection = await Connection.open(port)
        try:
            return await connection.send_and_read(request)
        finally:
            connection.close()
