"""The outermost middleware: request id, metrics and log line of every request, and status 500 for unexpected errors.

Plain ASGI with one wrapped `send`: cheap enough for every request.
"""

import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.observability.request_context import CURRENT
from service.observability.request_log import REQUEST_ID, RequestLog
from service.observability.slow_capture import SlowRequests
from service.status import INTERNAL
from service.transport.responses import error_response

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""Other methods are counted as one: label values must not come from clients."""

CLOSED = "the handler is closed"
"""Text of uvloop's error for a write to a closed connection."""

log = logging.getLogger(__name__)


class RequestMiddleware:
    """Wraps the whole application."""

    def __init__(self, app: ASGIApp, request_log: RequestLog, slow: SlowRequests) -> None:
        """Store the dependencies.

        Args:
            app: answers the requests.
            request_log: begins and finishes requests.
            slow: captures slow requests.
        """
        self._app = app
        self._request_log = request_log
        self._slow = slow

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        context, span = self._request_log.begin(scope["path"], scope["headers"])
        status = 0
        capture = self._slow.capture(scope["path"])
        if capture is not None:
            receive, send = capture.between(receive, send)

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                request_id = (REQUEST_ID, context.request_id.encode())
                context.answered = time.perf_counter()
                message["headers"] = [*message.get("headers", ()), request_id]
            await _send_if_open(send, message)

        token = CURRENT.set(context)
        try:
            if not await self._answer(scope, receive, send_with_id) and status == 0:
                await error_response(500, INTERNAL)(scope, receive, send_with_id)
            route = getattr(scope.get("route"), "path", "unmatched")
            took_s = self._request_log.finish((route, _method(scope)), context, span, status)
            if capture is not None:
                self._slow.finish(capture, scope, route, status, took_s, context)
        finally:
            CURRENT.reset(token)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> bool:
        """Let the application answer; False if it raised an exception."""
        try:
            await self._app(scope, receive, send)
        except Exception:
            log.exception("request failed", extra={"path": scope["path"]})
            return False
        return True


async def _send_if_open(send: Send, message: Message) -> None:
    """Send to a client. A closed connection is not an error: the client no longer reads the answer.

    Uvicorn handles this for the request that it reads, but not for requests that the client pipelined behind it before
    it closed the connection.
    """
    try:
        await send(message)
    except RuntimeError as error:
        if CLOSED not in str(error):
            raise


def _method(scope: Scope) -> str:
    return scope["method"] if scope["method"] in METHODS else "other"
