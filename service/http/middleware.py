"""The only middleware: request id, metrics and log line of every request, checks of access, and expected errors.

One pass in plain ASGI, outside of FastAPI: each layer costs every request a frame, and one more for each message
of its answer. The routes that score are called from here. FastAPI, which searches all routes and enters two stacks of
contexts, documents them, and answers everything else.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from models.contract.errors import AbsorbError
from service.observability.request_context import CURRENT
from service.observability.request_log import REQUEST_ID, RequestLog
from service.observability.slow_capture import SlowRequests
from service.status import INTERNAL
from service.transport.headers import Headers, first_of_each
from service.transport.responses import error_response

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""Other methods are counted as one: label values must not come from clients."""

CLOSED = "the handler is closed"
"""Text of uvloop's error for a write to a closed connection."""

Check = Callable[[Scope, Headers], None]
"""Raises an AbsorbError for a request that is rejected before it is read."""
OnError = Callable[[AbsorbError], Response]

log = logging.getLogger(__name__)


class RequestMiddleware:
    """Wraps the whole application."""

    def __init__(
        self,
        app: ASGIApp,
        request_log: RequestLog,
        slow: SlowRequests,
        checks: Sequence[Check],
        routes: Mapping[str, APIRoute],
        on_error: OnError,
    ) -> None:
        """Store the dependencies.

        Args:
            app: answers the requests that no route of `routes` answers.
            request_log: begins and finishes requests.
            slow: captures slow requests.
            checks: called in turn with each request.
            routes: path -> POST route whose function takes the request.
            on_error: makes the response of an expected error.
        """
        self._app = app
        self._request_log = request_log
        self._slow = slow
        self._checks = checks
        self._routes = routes
        self._on_error = on_error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        context, span = self._request_log.begin(scope["path"], scope["headers"])
        status = 0
        capture = self._slow.capture(scope["path"]) if self._slow.is_on else None
        if capture is not None:
            receive, send = capture.between(receive, send)

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                request_id = (REQUEST_ID, context.request_id.encode())
                context.answered = time.perf_counter()
                message["headers"] = [*message.get("headers", ()), request_id]
            await send(message)

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
            response = await self._response(scope, receive, send)
            if response is not None:
                await response(scope, receive, send)
        except Exception as error:
            # The client no longer reads the answer. Uvicorn handles this for the request that it reads, but not for
            # those that the client pipelined behind it before it closed the connection.
            if isinstance(error, RuntimeError) and CLOSED in str(error):
                return True
            log.exception("request failed", extra={"path": scope["path"]})
            return False
        return True

    async def _response(self, scope: Scope, receive: Receive, send: Send) -> Response | None:
        """The response of a route of ours, or of a check; None: the application has answered."""
        headers = first_of_each(scope)
        try:
            for check in self._checks:
                check(scope, headers)
            route = self._routes.get(scope["path"]) if scope["method"] == "POST" else None
            if route is not None:
                scope["route"] = route
                response: Response = await route.endpoint(Request(scope, receive))
                return response
        except AbsorbError as error:
            return self._on_error(error)
        await self._app(scope, receive, send)
        return None


def _method(scope: Scope) -> str:
    return scope["method"] if scope["method"] in METHODS else "other"
