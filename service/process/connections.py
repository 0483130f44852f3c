"""Connections whose requests' heads come too slowly or are too long: closed before they become requests.

Uvicorn waits for ever for the rest of a head, and keeps all of it, as it keeps what may come behind a chunked body or
beside a chunk's size. Bodies have limits of their own (`bodies.py`).
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 1 << 16
"""Of a request line and its headers together, and of trailers; a proxy's are a few thousand."""
HEAD_S = 10.0
"""Seconds for a request's head, from the connection or from its first byte on."""


class BoundedProtocol(HttpToolsProtocol):
    """Uvicorn's protocol of one connection, with a limit on how long and how large a head may be."""

    _head_timer: asyncio.TimerHandle | None = None
    _head_bytes = 0
    """What came since the request began, or since the latest piece of its body."""
    _is_incomplete = True

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        """Read on, unless the head has become too long, or what comes with a body's chunks or behind them."""
        self._head_bytes += len(data)
        super().data_received(data)
        if self._is_incomplete and self._head_bytes > MAX_HEAD_BYTES:
            self._close()

    def on_message_begin(self) -> None:
        """A request's first byte: the rest of its head follows soon."""
        super().on_message_begin()
        self._is_incomplete = True
        if self._head_timer is None:
            self._wait_for_head()

    def on_headers_complete(self) -> None:
        """The head is there; its time is over."""
        self._stop_waiting()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is there, with its body."""
        self._is_incomplete = False
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody waits any more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait_for_head(self) -> None:
        self._head_bytes = 0
        self._head_timer = self.loop.call_later(HEAD_S, self._close)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _close(self) -> None:
        self._stop_waiting()
        if not self.transport.is_closing():
            self.transport.close()
