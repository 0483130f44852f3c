"""Begins and ends every request, for HTTP and gRPC: ids and span at the start; metrics and log line at the end."""

import logging
import time
from collections.abc import Iterable

from service.observability.metrics import Telemetry, milliseconds
from service.observability.request_context import RequestContext, request_id_from
from service.observability.traceparent import read_traceparent
from service.observability.tracing import RequestSpan, Tracing
from service.settings import Settings

REQUEST_ID = b"x-request-id"
TRACEPARENT = b"traceparent"
TRACESTATE = b"tracestate"

access_log = logging.getLogger("service.access")


class RequestLog:
    """Begins and ends requests."""

    def __init__(
        self, telemetry: Telemetry, settings: Settings, tracing: Tracing | None = None
    ) -> None:
        """Store the dependencies.

        Args:
            telemetry: the metrics.
            settings: what is logged.
            tracing: starts spans; None: requests are not traced.
        """
        self._telemetry = telemetry
        self._tracing = tracing
        self._level = logging.getLevelNamesMapping().get(settings.access_log)
        self._log_user_ids = settings.log_user_ids

    def begin(
        self, path: str, headers: Iterable[tuple[bytes, bytes]]
    ) -> tuple[RequestContext, RequestSpan | None]:
        """Make the context, and start a span if the request is traced.

        Args:
            path: path of the request.
            headers: names in lower case, and values.
        """
        offered: bytes | None = None
        parents: list[bytes] = []
        states: list[bytes] = []
        for name, value in headers:
            if name == REQUEST_ID:
                offered = offered or value
            elif name == TRACEPARENT:
                parents.append(value)
            elif name == TRACESTATE:
                states.append(value)
        context = RequestContext(request_id_from(offered))
        parent = read_traceparent(parents) if parents else None
        if parent is not None:
            context.trace_id = parent.trace_id
        if self._tracing is None:
            return context, None
        return context, self._tracing.begin(path, parent, states, context)

    def finish(
        self,
        endpoint: tuple[str, str],
        context: RequestContext,
        span: RequestSpan | None,
        status: int,
    ) -> float:
        """Count and log the request, end its span, and call `later`. Returns the seconds that the request took.

        Args:
            endpoint: route template and method. Not the path, which may contain user ids.
            context: context from `begin`, filled in.
            span: span from `begin`.
            status: HTTP status, also for gRPC.
        """
        route, method = endpoint
        took_s = (context.ended or time.perf_counter()) - context.started
        self._telemetry.answered(route, method, context.model, status, took_s)
        if context.scored:
            self._telemetry.staged(context.model, "parse", context.parsed - context.started)
            self._telemetry.staged(context.model, "encode", context.answered - context.scored)
        if self._level is not None and access_log.isEnabledFor(self._level):
            fields = self._line(context, route, method, status, took_s)
            access_log.log(self._level, "request", extra=fields)
        if span is not None:
            span.end(route, method, status, context)
        for work in context.later:
            work()
        return took_s

    def _line(
        self, context: RequestContext, route: str, method: str, status: int, took_s: float
    ) -> dict[str, object]:
        """Fields of the access log line."""
        fields: dict[str, object] = {"method": method, "route": route, "status": status}
        fields["took_ms"] = milliseconds(took_s)
        if context.model:
            fields["model"] = context.model
        if context.generation:
            stages = {stage: milliseconds(part_s) for stage, part_s in context.stages.items()}
            state = {"source": context.source, "degraded": context.degraded}
            fields |= {"generation": context.generation, **state, "stages_ms": stages}
        if self._log_user_ids and context.user_id:
            fields["user_id"] = context.user_id
        return fields
