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
from service.observability.request_context import CURRENT, RequestContext
from service.observability.request_log import REQUEST_ID, RequestLog
from service.observability.slow_capture import SlowRequests
from service.status import INTERNAL
from service.transport.exchange import KEY, NONE, Exchange
from service.transport.headers import Headers, first_of_each
from service.transport.responses import JsonResponse, error_response

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
        exchange = scope.get("extensions", NONE).get(KEY)
        sender = Sender(send, context, exchange)
        capture = self._slow.capture(scope["path"]) if self._slow.is_on else None
        if capture is not None:
            receive, sender.send = capture.between(receive, send)
            sender.exchange, scope["extensions"] = None, {}  # only messages are captured

        def finish() -> None:
            route = getattr(scope.get("route"), "path", "unmatched")
            endpoint = route, _method(scope)
            took_s = self._request_log.finish(endpoint, context, span, sender.status)
            if capture is not None:
                self._slow.finish(capture, scope, route, sender.status, took_s, context)

        token = CURRENT.set(context)
        try:
            if not await self._answer(scope, receive, sender) and sender.status == 0:
                await error_response(500, INTERNAL)(scope, receive, sender)
            context.ended = time.perf_counter()
            if exchange is None:
                finish()
            else:  # after the answer is sent: uvloop writes once all that is ready has run
                exchange.later(finish)
        finally:
            CURRENT.reset(token)

    async def _answer(self, scope: Scope, receive: Receive, sender: "Sender") -> bool:
        """Let the application answer; False if it raised an exception."""
        try:
            response = await self._response(scope, receive, sender)
            if response is not None and not sender.answer(response):
                await response(scope, receive, sender)
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


class Sender:
    """Adds the request's id to its answer. Called with ASGI messages, as `send`.

    Attributes:
        status: of the answer; 0 until it begins.
        send: ASGI callable that gets the messages.
        exchange: answers at once; None: all answers are messages.
    """

    __slots__ = ("_context", "exchange", "send", "status")

    def __init__(self, send: Send, context: RequestContext, exchange: Exchange | None) -> None:
        self.status = 0
        self.send = send
        self.exchange = exchange
        self._context = context

    async def __call__(self, message: Message) -> None:
        """Send a message."""
        if message["type"] == "http.response.start":
            self._begin(message["status"])
            message["headers"] = [*message.get("headers", ()), self._id()]
        await self.send(message)

    def answer(self, response: Response) -> bool:
        """Send a JSON response at once, without messages; False if that cannot be: then nothing was sent."""
        if self.exchange is None or not isinstance(response, JsonResponse):
            return False
        self._begin(response.status_code)
        headers = [*response.raw_headers, self._id()]
        return self.exchange.answer(self.status, headers, bytes(response.body))

    def _begin(self, status: int) -> None:
        self.status = status
        self._context.answered = time.perf_counter()

    def _id(self) -> tuple[bytes, bytes]:
        return REQUEST_ID, self._context.request_id.encode()


def _method(scope: Scope) -> str:
    return scope["method"] if scope["method"] in METHODS else "other"
