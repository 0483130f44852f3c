"""Frames of HTTP/2 (RFC 9113) as bytes: for clients of gRPC that stop halfway, which no library of HTTP/2 allows.

Header blocks are sent as literals without indexing (RFC 7541, 6.2.2). The settings that are sent here set the size of
the peer's dynamic table to 0, so that its blocks can be read without one.
"""

import asyncio
import ssl
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0, 1, 3, 4, 6, 7
"""Kinds of frames."""
END_STREAM, ACK, END_HEADERS = 1, 1, 4
"""Flags of frames."""
NO_TABLE = b"\x00\x01\x00\x00\x00\x00"
"""SETTINGS_HEADER_TABLE_SIZE = 0."""
MAX_PAYLOAD = 16384
HEAD_BYTES = 9
CANCEL = b"\0\0\0\x08"
"""Error code of RST_STREAM."""


class Frame(NamedTuple):
    """One received frame."""

    kind: int
    flags: int
    stream: int
    payload: bytes


@dataclass(frozen=True)
class Answer:
    """End of a call.

    Attributes:
        code: value of grpc-status; None: the stream was reset or the connection was closed without it.
        text: value of grpc-message, percent-encoded.
        metadata: headers and trailers.
    """

    code: int | None
    text: str
    metadata: Mapping[str, str]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame."""
    size = len(payload).to_bytes(3, "big")
    return size + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def head(
    path: bytes, *more: tuple[bytes, bytes], stream: int = 1, flags: int = END_HEADERS
) -> bytes:
    """A HEADERS frame that opens a call.

    Args:
        path: `/service/method`.
        more: metadata.
        stream: odd number, higher than all before.
        flags: flags of the frame.
    """
    fields = (
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path),
        (b":authority", b"localhost"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
        *more,
    )
    block = b"".join(b"\0" + _string(name) + _string(value) for name, value in fields)
    return frame(HEADERS, flags, stream, block)


def message(content: bytes, compressed: bool = False, length: int | None = None) -> bytes:
    """A gRPC message as it stands in DATA frames.

    Args:
        content: its bytes.
        compressed: its flag.
        length: its declared length; None: the right one.
    """
    length = len(content) if length is None else length
    return bytes([compressed]) + length.to_bytes(4, "big") + content


def data(content: bytes, stream: int = 1, ends: bool = True) -> bytes:
    """DATA frames; the last one ends the stream if `ends`."""
    parts = [content[at : at + MAX_PAYLOAD] for at in range(0, len(content), MAX_PAYLOAD)] or [b""]
    flags = [0] * (len(parts) - 1) + [END_STREAM if ends else 0]
    return b"".join(
        frame(DATA, flag, stream, part) for flag, part in zip(flags, parts, strict=True)
    )


class Peer:
    """A client's end of one connection. It acknowledges settings and pings only while it reads."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(
        cls, port: int, greets: bool = True, tls: ssl.SSLContext | None = None
    ) -> "Peer":
        """Connect to a port of this machine.

        Args:
            port: the port.
            greets: send the preface and the settings.
            tls: context of the TLS connection; None: plain TCP.
        """
        self = cls(*await asyncio.open_connection("127.0.0.1", port, ssl=tls))
        if greets:
            await self.send(PREFACE + frame(SETTINGS, 0, 0, NO_TABLE))
        return self

    async def send(self, content: bytes) -> None:
        """Send bytes."""
        self._writer.write(content)
        await self._writer.drain()

    async def read(self) -> Frame | None:
        """Next frame; None if the connection is closed."""
        try:
            first = await self._reader.readexactly(HEAD_BYTES)
            payload = await self._reader.readexactly(int.from_bytes(first[:3], "big"))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        came = Frame(first[3], first[4], int.from_bytes(first[5:], "big"), payload)
        if came.kind in (SETTINGS, PING) and not came.flags & ACK:
            await self.send(frame(came.kind, ACK, 0, payload if came.kind == PING else b""))
        return came

    async def answer(self, stream: int = 1) -> Answer:
        """Read until the call of this stream ends."""
        return (await self.answers(1, stream)).get(stream, Answer(None, "", {}))

    async def answers(self, number: int, only: int | None = None) -> dict[int, Answer]:
        """Read until so many calls have ended, or the connection is closed; stream -> answer.

        Args:
            number: how many calls.
            only: the one stream that counts; None: all.
        """
        metadata: defaultdict[int, dict[str, str]] = defaultdict(dict)
        ended: dict[int, Answer] = {}
        while len(ended) < number and (came := await self.read()) is not None:
            if came.stream == 0 or only not in (None, came.stream):
                continue
            if came.kind == HEADERS:
                metadata[came.stream] |= dict(_fields(came.payload))
            is_last = came.kind in (DATA, HEADERS) and came.flags & END_STREAM
            if is_last or came.kind == RST_STREAM:
                ended.setdefault(came.stream, _answer_of(metadata[came.stream]))
        return ended

    async def until_closed(self) -> list[int]:
        """Kinds of the frames that come before the other end closes the connection; acknowledges none of them."""
        kinds = []
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                first = await self._reader.readexactly(HEAD_BYTES)
                await self._reader.readexactly(int.from_bytes(first[:3], "big"))
                kinds.append(first[3])
        return kinds

    def abort(self) -> None:
        """Reset the connection."""
        self._writer.transport.abort()


def _answer_of(metadata: Mapping[str, str]) -> Answer:
    code = metadata.get("grpc-status")
    return Answer(None if code is None else int(code), metadata.get("grpc-message", ""), metadata)


def _string(text: bytes) -> bytes:
    """A string literal of HPACK (RFC 7541, 5.2), without Huffman coding."""
    if len(text) < 0x7F:
        return bytes([len(text)]) + text
    rest, size = len(text) - 0x7F, b"\x7f"
    while rest >= 0x80:
        size += bytes([rest % 0x80 + 0x80])
        rest //= 0x80
    return size + bytes([rest]) + text


def _fields(block: bytes) -> Iterator[tuple[str, str]]:
    """Literal fields of a header block. Fields of the static table are left out."""
    at = 0
    while at < len(block):
        first = block[at]
        if first & 0x80:  # name and value from the static table
            at += 1
            continue
        prefix = 0x3F if first & 0x40 else 0x1F if first & 0x20 else 0x0F
        index, at = _number(block, at, prefix)
        if first & 0x60 == 0x20:  # size of the dynamic table
            continue
        name = ""
        if index == 0:
            name, at = _text(block, at)
        value, at = _text(block, at)
        yield name, value


def _text(block: bytes, at: int) -> tuple[str, int]:
    size, at = _number(block, at, 0x7F)
    return block[at : at + size].decode("latin-1"), at + size


def _number(block: bytes, at: int, prefix: int) -> tuple[int, int]:
    """An integer of HPACK (RFC 7541, 5.1), and the position behind it."""
    number, at = block[at] & prefix, at + 1
    if number < prefix:
        return number, at
    shift = 0
    while True:
        number += (block[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if not block[at - 1] & 0x80:
            return number, at
