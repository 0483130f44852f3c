"""Reads request bodies chunk by chunk, decompresses them chunk by chunk, and keeps limits of size and time.

The size limit holds for the bytes as sent and for the decompressed bytes: a small body that decompresses to a large one
is rejected as soon as it passes the limit, before the rest is decompressed.
"""

import asyncio
import zlib
from dataclasses import dataclass

from starlette.requests import Request
from starlette.types import Receive

from models.contract.errors import RequestError, Unquoted
from service.errors import BodyTimeoutError, BodyTooLargeError, ClientGoneError, EncodingError
from service.transport.exchange import KEY, NONE, Exchange
from service.transport.headers import Headers, first_of_each

WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
"""Content-Encoding -> zlib's `wbits`; `deflate` means the zlib format (RFC 9110, 8.4.1.2)."""


@dataclass(frozen=True)
class BodyLimit:
    """Limits of a request body.

    Attributes:
        num_bytes: maximum length, as sent and decompressed.
        seconds: maximum time from the start of reading to the end of the body.
    """

    num_bytes: int
    seconds: float


async def read_body(request: Request, limit: BodyLimit) -> bytes:
    """Read a request's body, and decompress it as its Content-Encoding says; raises as `receive_body` does."""
    scope = request.scope
    return await receive_body(
        request.receive, first_of_each(scope), limit, scope.get("extensions", NONE).get(KEY)
    )


async def receive_body(
    receive: Receive, headers: Headers, limit: BodyLimit, exchange: Exchange | None = None
) -> bytes:
    """Read a request's body, and decompress it as its Content-Encoding says.

    Args:
        receive: ASGI callable of the request.
        headers: its headers; names in lower case.
        limit: limits of the body.
        exchange: gives a body that has arrived whole; None: it is received chunk by chunk.

    Raises:
        BodyTooLargeError: longer than the limit, as sent or decompressed.
        BodyTimeoutError: the end did not arrive in time.
        EncodingError: the Content-Encoding is not supported.
        RequestError: the body is not in the format that its Content-Encoding names.
        ClientGoneError: the client closed the connection before the end.
    """
    declared = headers.get(b"content-length", b"0")
    if declared.isdigit() and int(declared) > limit.num_bytes:
        raise BodyTooLargeError(limit.num_bytes)
    encoding = headers.get(b"content-encoding", b"identity").decode("latin-1").strip().lower()
    decompressor = (
        None if encoding in ("", "identity") else _Decompressor(encoding, limit.num_bytes)
    )
    whole = None if exchange is None else exchange.take_body()
    if whole is not None:  # as nearly always: without a timer
        if len(whole) > limit.num_bytes:
            raise BodyTooLargeError(limit.num_bytes)
        if decompressor is None:
            return whole
        decompressor.feed(whole)
        return decompressor.finish()
    try:
        async with asyncio.timeout(limit.seconds):
            sent = await _read(receive, limit.num_bytes, decompressor)
    except TimeoutError as error:
        raise BodyTimeoutError(limit.seconds) from error
    return sent if decompressor is None else decompressor.finish()


async def _read(receive: Receive, limit_bytes: int, decompressor: "_Decompressor | None") -> bytes:
    """Read the body as sent; empty if the decompressor takes the bytes."""
    chunks: list[bytes] = []
    num_bytes = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        chunk: bytes = message.get("body", b"")
        num_bytes += len(chunk)
        if num_bytes > limit_bytes:
            raise BodyTooLargeError(limit_bytes)
        if decompressor is None:
            chunks.append(chunk)
        else:
            decompressor.feed(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)


class _Decompressor:
    """Decompresses one body, up to a limit."""

    def __init__(self, encoding: str, limit_bytes: int) -> None:
        if encoding not in WINDOW_BITS:
            raise EncodingError(encoding, [*WINDOW_BITS, "identity"])
        self._encoding = encoding
        self._limit_bytes = limit_bytes
        self._stream = zlib.decompressobj(WINDOW_BITS[encoding])
        self._body = bytearray()

    def feed(self, chunk: bytes) -> None:
        try:
            # One byte more than allowed shows that the body is too long; nothing beyond it is decompressed.
            room = self._limit_bytes - len(self._body) + 1
            self._body += self._stream.decompress(chunk, room)
        except zlib.error as error:
            raise self._broken(f"bytes that zlib rejects ({error})") from error
        if len(self._body) > self._limit_bytes:
            raise BodyTooLargeError(self._limit_bytes)
        if self._stream.unused_data:
            raise self._broken("bytes after its end")

    def finish(self) -> bytes:
        """Return the decompressed body.

        Raises:
            RequestError: the stream has not ended.
        """
        if not self._stream.eof:
            raise self._broken("a stream without its end")
        return bytes(self._body)

    def _broken(self, what: str) -> RequestError:
        return RequestError("body", Unquoted(what), f"one whole {self._encoding} stream")
