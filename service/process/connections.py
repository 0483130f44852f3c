"""Closes connections whose request head is too slow or too large, or whose body does not end after its answer.

The head is the request line and the headers. Uvicorn limits none of this: it buffers the head, chunk extensions and
trailers while it waits for the rest, and discards without end what a client goes on sending after its request was
refused. Until then bodies have their own limits (`service/transport/body.py`).
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.transport.exchange import KEY, Arrivals, DefaultHeaders, Exchange

MAX_HEAD_BYTES = 1 << 16
"""Largest request line and headers together, and largest trailers. A proxy sends a few thousand bytes."""
HEAD_S = 10.0
"""Seconds for a request's head, from the start of the connection or from the head's first byte."""

DISCARDED_BYTES = 4 << 20
"""Bytes of a body that are read and discarded after its answer. At once the connection cannot be closed: it would be
reset, and the client, which still sends, would not read the answer."""
DISCARD_S = 5.0
"""Seconds for the same."""
DEFAULTS = DefaultHeaders()
"""All connections of a process send the same."""


class BoundedProtocol(HttpToolsProtocol):
    """Uvicorn's protocol of one connection, with limits on time and size of a head, and an exchange for each request.

    Args:
        arrivals: counts requests; None: they are not counted.
        kept: uvicorn's arguments.
    """

    _head_timer: asyncio.TimerHandle | None = None
    _head_bytes = 0
    """Bytes received since the request began, or since the last part of its body."""
    _is_incomplete = True
    _discard_timer: asyncio.TimerHandle | None = None
    """Runs while the rest of an answered request's body arrives."""
    _discarded_bytes = 0

    def __init__(self, arrivals: Arrivals | None = None, **kept: Any) -> None:
        super().__init__(**kept)
        if arrivals is not None:
            arrivals.watch(self.tasks)

    def connection_made(self, transport: Any) -> None:
        """Start the timer for the first request."""
        super().connection_made(transport)
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        """Parse the bytes; close the connection if the head, chunk extensions or trailers are too large."""
        self._head_bytes += len(data)
        super().data_received(data)
        if self._is_incomplete and self._head_bytes > MAX_HEAD_BYTES:
            self._close()
        if self._discard_timer is not None:
            self._discarded_bytes += len(data)
            if self._discarded_bytes > DISCARDED_BYTES:
                self._close()

    def on_message_begin(self) -> None:
        """First byte of a request: start the timer for its head."""
        super().on_message_begin()
        self._is_incomplete = True
        if self._head_timer is None:
            self._wait_for_head()

    def on_headers_complete(self) -> None:
        """The head is complete: stop the timer."""
        self._stop_waiting()
        super().on_headers_complete()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        cycle.scope["extensions"] = {KEY: Exchange(cycle, DEFAULTS, self.loop.call_soon)}
        super()._start_asgi_task(cycle, app)

    def on_body(self, body: bytes) -> None:
        """Part of a body: body bytes do not count towards the limit of the head."""
        self._head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is complete, with its body."""
        self._is_incomplete = False
        self._stop_discarding()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The answer is sent: if the body has not ended by then, only so much of it is still read."""
        super().on_response_complete()
        is_answered = self.cycle.response_complete  # else the next request's body is on its way
        if is_answered and self.cycle.more_body and not self.transport.is_closing():
            self._stop_discarding()
            self._discarded_bytes = 0
            self._discard_timer = self.loop.call_later(DISCARD_S, self._close)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed: stop the timers."""
        self._stop_waiting()
        self._stop_discarding()
        super().connection_lost(exc)

    def _wait_for_head(self) -> None:
        self._head_bytes = 0
        self._head_timer = self.loop.call_later(HEAD_S, self._close)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_discarding(self) -> None:
        if self._discard_timer is not None:
            self._discard_timer.cancel()
            self._discard_timer = None

    def _close(self) -> None:
        self._stop_waiting()
        self._stop_discarding()
        if not self.transport.is_closing():
            self.transport.close()
