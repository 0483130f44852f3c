"""The one middleware: an id for every request, its metrics, its log line, and a 500 where nobody expected an error.

Pure ASGI, and cheap: one pass over the headers, one wrapped `send`.
"""

import logging
import time
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.context import CURRENT, RequestContext, request_id_from
from service.errors import INTERNAL
from service.settings import Settings
from service.slow import SlowRequests
from service.telemetry import Telemetry, milliseconds
from service.trace_context import read_traceparent
from service.tracing import RequestSpan, Tracing

REQUEST_ID = b"x-request-id"
TRACEPARENT = b"traceparent"
TRACESTATE = b"tracestate"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""Others are counted as one: a label is no place for a stranger's word."""

GONE = "the handler is closed"
"""What uvloop says of a write to a connection that is closed already."""

log = logging.getLogger(__name__)
access_log = logging.getLogger("service.access")
Refusal = Callable[[int, str], ASGIApp]


class Outermost:
    """Wraps the whole application."""

    def __init__(
        self,
        app: ASGIApp,
        telemetry: Telemetry,
        settings: Settings,
        refuse: Refusal,
        slow: SlowRequests,
        tracing: Tracing | None = None,
    ) -> None:
        """Keep the parts.

        Args:
            app: what answers.
            telemetry: counts.
            settings: say what is logged.
            refuse: makes an error's answer from its status and its text.
            slow: keeps what took long.
            tracing: begins spans; None: there are none.
        """
        self._app = app
        self._telemetry = telemetry
        self._refuse = refuse
        self._tracing = tracing
        self._slow = slow
        self._access_level = logging.getLevelNamesMapping().get(settings.access_log)
        self._log_user_ids = settings.log_user_ids

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        about, span = self._begin(scope)
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
            took_s = time.perf_counter() - about.started
            route = getattr(scope.get("route"), "path", "unmatched")
            self._finish((route, _method(scope)), about, span, status, took_s)
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

    def _begin(self, scope: Scope) -> tuple[RequestContext, RequestSpan | None]:
        """Read the headers that concern us, in one pass."""
        offered: bytes | None = None
        parents: list[bytes] = []
        states: list[bytes] = []
        for name, value in scope["headers"]:
            if name == REQUEST_ID:
                offered = offered or value
            elif name == TRACEPARENT:
                parents.append(value)
            elif name == TRACESTATE:
                states.append(value)
        about = RequestContext(request_id_from(offered))
        parent = read_traceparent(parents) if parents else None
        if parent is not None:
            about.trace_id = parent.trace_id
        if self._tracing is None:
            return about, None
        return about, self._tracing.begin(scope["path"], parent, states, about)

    def _finish(
        self,
        asked: tuple[str, str],
        about: RequestContext,
        span: RequestSpan | None,
        status: int,
        took_s: float,
    ) -> None:
        """Count, log and start what waited for the answer to be sent."""
        route, method = asked
        self._telemetry.answered(route, method, about.model, status, took_s)
        if about.scored:
            self._telemetry.staged(about.model, "parse", about.asked - about.started)
            self._telemetry.staged(about.model, "encode", about.answered - about.scored)
        if self._access_level is not None and access_log.isEnabledFor(self._access_level):
            fields = self._line(about, route, method, status, took_s)
            access_log.log(self._access_level, "request", extra=fields)
        if span is not None:
            span.end(route, method, status, about)
        for work in about.later:
            work()

    def _line(
        self, about: RequestContext, route: str, method: str, status: int, took_s: float
    ) -> dict[str, object]:
        """Fields of the access log. The route, not the path: paths hold user ids."""
        fields: dict[str, object] = {"method": method, "route": route, "status": status}
        fields["took_ms"] = milliseconds(took_s)
        if about.model:
            fields["model"] = about.model
        if about.generation:
            stages = {stage: milliseconds(part_s) for stage, part_s in about.stages.items()}
            about_state = {"source": about.source, "degraded": about.degraded}
            fields |= {"generation": about.generation, **about_state, "stages_ms": stages}
        if self._log_user_ids and about.user_id:
            fields["user_id"] = about.user_id
        return fields


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
