"""Requests' bodies: read in steps, unpacked in steps, and never longer or slower than the limits.

The limit holds for the bytes on the wire and for what they unpack to, so a small body that unpacks to a large one is
refused once it has passed the limit, before the rest of it exists.
"""

import asyncio
import zlib
from dataclasses import dataclass

from starlette.requests import ClientDisconnect, Request

from models.contract.errors import RequestError
from service.errors import BodyTimeoutError, BodyTooLargeError, ClientGoneError, EncodingError

WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
"""Content-Encoding -> zlib's name of the format; `deflate` is zlib's, as RFC 9110 says."""


@dataclass(frozen=True)
class BodyLimit:
    """How much of a body is read, and for how long.

    Attributes:
        num_bytes: of the body, as sent and unpacked.
        seconds: from the first look at it until its end.
    """

    num_bytes: int
    seconds: float


async def read_body(request: Request, limit: BodyLimit) -> bytes:
    """A request's body, unpacked as its Content-Encoding says.

    Raises:
        BodyTooLargeError: longer than the limit, as sent or unpacked.
        BodyTimeoutError: the end did not arrive in time.
        EncodingError: packed in a way that is not known here.
        RequestError: not what its Content-Encoding says.
        ClientGoneError: the client closed the connection before the end.
    """
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > limit.num_bytes:
        raise BodyTooLargeError(limit.num_bytes)
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    unpacker = None if encoding in ("", "identity") else _Unpacker(encoding, limit.num_bytes)
    try:
        async with asyncio.timeout(limit.seconds):
            sent = await _read(request, limit.num_bytes, unpacker)
    except TimeoutError as error:
        raise BodyTimeoutError(limit.seconds) from error
    except ClientDisconnect as error:
        raise ClientGoneError from error
    return sent if unpacker is None else unpacker.whole()


async def _read(request: Request, limit_bytes: int, unpacker: "_Unpacker | None") -> bytes:
    """Every byte of the body as sent; empty where the unpacker keeps them."""
    body = bytearray()
    num_bytes = 0
    async for chunk in request.stream():
        num_bytes += len(chunk)
        if num_bytes > limit_bytes:
            raise BodyTooLargeError(limit_bytes)
        if unpacker is None:
            body += chunk
        else:
            unpacker.feed(chunk)
    return bytes(body)


class _Unpacker:
    """Unpacks one stream, up to a limit."""

    def __init__(self, encoding: str, limit_bytes: int) -> None:
        if encoding not in WINDOW_BITS:
            raise EncodingError(encoding, [*WINDOW_BITS, "identity"])
        self._encoding = encoding
        self._limit_bytes = limit_bytes
        self._stream = zlib.decompressobj(WINDOW_BITS[encoding])
        self._body = bytearray()

    def feed(self, chunk: bytes) -> None:
        try:
            # One byte more than may come shows that there is more, and no more than that is made.
            room = self._limit_bytes - len(self._body) + 1
            self._body += self._stream.decompress(chunk, room)
        except zlib.error as error:
            raise self._broken(str(error)) from error
        if len(self._body) > self._limit_bytes:
            raise BodyTooLargeError(self._limit_bytes)
        if self._stream.unused_data:
            raise self._broken("bytes after its end")

    def whole(self) -> bytes:
        """What came out.

        Raises:
            RequestError: the stream has not ended.
        """
        if not self._stream.eof:
            raise self._broken("a stream without its end")
        return bytes(self._body)

    def _broken(self, what: str) -> RequestError:
        return RequestError("body", what, f"one whole {self._encoding} stream")
