"""What every door does around a request: ids and a span when it comes; metrics and a log line with the answer."""

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


class Watch:
    """Begins and finishes requests; one for all doors."""

    def __init__(
        self, telemetry: Telemetry, settings: Settings, tracing: Tracing | None = None
    ) -> None:
        """Keep the parts.

        Args:
            telemetry: counts.
            settings: say what is logged.
            tracing: begins spans; None: there are none.
        """
        self._telemetry = telemetry
        self._tracing = tracing
        self._level = logging.getLevelNamesMapping().get(settings.access_log)
        self._log_user_ids = settings.log_user_ids

    def begin(
        self, path: str, headers: Iterable[tuple[bytes, bytes]]
    ) -> tuple[RequestContext, RequestSpan | None]:
        """Read the headers (names in lower case) that concern us, in one pass."""
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
        about = RequestContext(request_id_from(offered))
        parent = read_traceparent(parents) if parents else None
        if parent is not None:
            about.trace_id = parent.trace_id
        if self._tracing is None:
            return about, None
        return about, self._tracing.begin(path, parent, states, about)

    def finish(
        self,
        asked: tuple[str, str],
        about: RequestContext,
        span: RequestSpan | None,
        status: int,
    ) -> float:
        """Count, log, end the span and do what waited for the answer; gives the seconds that the request took.

        Args:
            asked: route, never the path, which may hold user ids; and method.
            about: what `begin` gave, filled in.
            span: the same.
            status: HTTP's, whatever the door.
        """
        route, method = asked
        took_s = time.perf_counter() - about.started
        self._telemetry.answered(route, method, about.model, status, took_s)
        if about.scored:
            self._telemetry.staged(about.model, "parse", about.asked - about.started)
            self._telemetry.staged(about.model, "encode", about.answered - about.scored)
        if self._level is not None and access_log.isEnabledFor(self._level):
            fields = self._line(about, route, method, status, took_s)
            access_log.log(self._level, "request", extra=fields)
        if span is not None:
            span.end(route, method, status, about)
        for work in about.later:
            work()
        return took_s

    def _line(
        self, about: RequestContext, route: str, method: str, status: int, took_s: float
    ) -> dict[str, object]:
        """Fields of the access log."""
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
