"""gRPC's own server with the limits of the HTTP server: on connections, waiting calls, and calls that are not known.

Five defaults of gRPC are not safe where clients are not trusted (grpcio 1.85):

- A call whose path is no UTF-8 ends the whole server: its loop decodes the path of every call that it has no
  registered handler for. All calls of this service are registered, and `CallServer` answers the others itself.
- At most 1,000 calls wait to be read; gRPC cancels the others without a word, and nothing counts them.
- Metadata that is no UTF-8 is logged, with a traceback.
- So is every answer whose client left before it was sent.
- A connection may be silent for two minutes before its first frame, and for ever after it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # compiled: the stubs leave it out

SERVICE = "inference.GRPCInferenceService"
HANDSHAKE_S = 10.0
"""Seconds from the start of a connection to the end of its TLS handshake and its first frame, as for a head of HTTP."""
IDLE_S = 60.0
"""Seconds after which a connection without calls is closed. gRPC's clients connect again at their next call."""
MAX_STREAMS = 1000
"""Calls that one connection may have open; clients of gRPC hold back further ones."""
MAX_UNREAD = 20_000
"""Calls of all connections that wait to be read. At 9 kB each (grpcio 1.85.3) they take 180 MB."""

Context = grpc.aio.ServicerContext[Any, Any]
Handlers = Mapping[str, "grpc.RpcMethodHandler[Any, Any]"]
Refuse = Callable[[Context], Awaitable[None]]


def is_of_the_server(record: logging.LogRecord) -> bool:
    """Filter of gRPC's log: drop the errors that clients cause.

    They are: metadata that is no UTF-8, which the line repeats, and which may be a key; and an answer that could not be
    sent since the client had left, which is ExecuteBatchError with a traceback.
    """
    error = record.exc_info[1] if record.exc_info else None
    is_gone = isinstance(error, cygrpc.ExecuteBatchError)
    return not is_gone and not str(record.msg).startswith("Invalid encoding on")


class CallServer(cygrpc.AioServer):  # type: ignore[misc]  # compiled: without types
    """gRPC's server; it passes calls without a registered handler to a function, and does not read their path."""

    refuse: Refuse
    """Ends such a call with an error; to be set before the server starts."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._refusals: set[asyncio.Task[None]] = set()

    def _make_request_call_future(self, method: bytes | None) -> "asyncio.Future[Any]":
        """Wait for the next call of a method. None: for calls that are not registered; the future never ends."""
        if method is None:
            return asyncio.get_running_loop().create_task(self._refuse_others())
        future: asyncio.Future[Any] = super()._make_request_call_future(method)
        return future

    async def _refuse_others(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            call = await self._request_call()
            context = cygrpc._ServicerContext(call, None, None, loop)
            task = loop.create_task(self._end(context))
            self._refusals.add(task)
            task.add_done_callback(self._refusals.discard)

    async def _end(self, context: Context) -> None:
        # Ending a call raises AbortError, or ExecuteBatchError if the client is gone.
        with suppress(grpc.aio.AbortError, cygrpc.ExecuteBatchError):
            await self.refuse(context)


def make_server(max_message_bytes: int, handlers: Handlers, refuse: Refuse) -> grpc.aio.Server:
    """Make a server that has no port yet.

    Args:
        max_message_bytes: longest message that the handlers accept, as sent and decompressed. Longer ones reach them,
            too, up to twice as much: then gRPC itself refuses a message with RESOURCE_EXHAUSTED, as soon as it
            has its length.
        handlers: `service/method` parts of the known calls and their handlers.
        refuse: ends every other call with an error.
    """
    logging.getLogger("grpc._cython.cygrpc").addFilter(is_of_the_server)
    options = [
        ("grpc.max_receive_message_length", 2 * max_message_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.so_reuseport", 0),  # with it, two services could share one port unnoticed
        ("grpc.server_handshake_timeout_ms", int(1000 * HANDSHAKE_S)),
        ("grpc.http2.settings_timeout", int(1000 * HANDSHAKE_S)),
        ("grpc.max_connection_idle_ms", int(1000 * IDLE_S)),
        ("grpc.max_concurrent_streams", MAX_STREAMS),
        # With it, calls that have ended count until they are forgotten: well-behaved clients would be refused.
        ("grpc.http.overload_protection", 0),
        ("grpc.server.max_pending_requests", MAX_UNREAD),
        ("grpc.server.max_pending_requests_hard_limit", MAX_UNREAD),
    ]
    usual, cygrpc.AioServer = cygrpc.AioServer, CallServer  # grpc.aio takes no class of server
    try:
        server = grpc.aio.server(options=options)
    finally:
        cygrpc.AioServer = usual
    server._server.refuse = refuse  # type: ignore[attr-defined]
    server.add_registered_method_handlers(SERVICE, handlers)
    return server
