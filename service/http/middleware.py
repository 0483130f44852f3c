"""The one middleware: an id for every request, its metrics, its log line, and a 500 where nobody expected an error.

Pure ASGI, and cheap: one wrapped `send`.
"""

import logging
import time
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.observability.request_context import CURRENT
from service.observability.request_log import REQUEST_ID, Watch
from service.observability.slow_capture import SlowRequests
from service.status import INTERNAL

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""Others are counted as one: a label is no place for a stranger's word."""

GONE = "the handler is closed"
"""What uvloop says of a write to a connection that is closed already."""

log = logging.getLogger(__name__)
Refusal = Callable[[int, str], ASGIApp]


class Outermost:
    """Wraps the whole application."""

    def __init__(self, app: ASGIApp, watch: Watch, refuse: Refusal, slow: SlowRequests) -> None:
        """Keep the parts.

        Args:
            app: what answers.
            watch: begins and finishes requests.
            refuse: makes an error's answer from its status and its text.
            slow: keeps what took long.
        """
        self._app = app
        self._watch = watch
        self._refuse = refuse
        self._slow = slow

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        about, span = self._watch.begin(scope["path"], scope["headers"])
        status = 0
        capture = self._slow.capture(scope["path"])
        if capture is not None:
            receive, send = capture.between(receive, send)

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = (REQUEST_ID, about.request_id.encode())
                about.answered = time.perf_counter()
                message["headers"] = [*message.get("headers", ()), own]
            await _send_if_there(send, message)

        token = CURRENT.set(about)
        try:
            if not await self._answer(scope, receive, watched) and status == 0:
                await self._refuse(500, INTERNAL)(scope, receive, watched)
            route = getattr(scope.get("route"), "path", "unmatched")
            took_s = self._watch.finish((route, _method(scope)), about, span, status)
            if capture is not None:
                self._slow.finish(capture, scope, route, status, took_s, about)
        finally:
            CURRENT.reset(token)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> bool:
        """Let the application answer; whether it raised nothing."""
        try:
            await self._app(scope, receive, send)
        except Exception:
            log.exception("request failed", extra={"path": scope["path"]})
            return False
        return True


async def _send_if_there(send: Send, message: Message) -> None:
    """Send to a client; if it is gone, nobody is there to read the answer, and that is no error.

    Uvicorn knows it of the request at hand, but not of those that a client sent behind it before it vanished.
    """
    try:
        await send(message)
    except RuntimeError as error:
        if GONE not in str(error):
            raise


def _method(scope: Scope) -> str:
    return scope["method"] if scope["method"] in METHODS else "other"
