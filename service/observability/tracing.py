"""OpenTelemetry spans of requests, if the extra `otel` is installed and the environment names an exporter.

A request's span has one child per stage of its scoring (cache, queue, decode, compute). The children are created after
the answer is sent, from times that are measured anyway, so they do not delay the answer; requests that are not sampled
get none. Spans contain no user ids. The SDK reads its own variables (`OTEL_*`): sampler, resource, exporter, batches.
It exports in its own thread from a bounded queue: an exporter that is down loses spans and affects nothing else.
"""

import logging
import threading
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING

from service.observability.metrics import STAGE_NAMES
from service.observability.request_context import RequestContext
from service.observability.traceparent import TraceParent
from service.settings import is_trace_exporter_named

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer

EXCLUDED = ("/health", "/metrics", "/v2/health", "/docs", "/openapi.json")
"""Paths with these prefixes are not traced."""
PROBED = ("/ready", "Ready", "ServerLive")
"""Nor are paths with these suffixes: readiness of single models, and probes over gRPC."""
SERVICE_NAME = "absorb"
UNNAMED = "unknown_service"
"""Prefix of the SDK's default service name."""
CLOSE_LIMIT_S = 2.0
NANOSECONDS = 1_000_000_000
SERVER_ERROR = 500

log = logging.getLogger(__name__)


def make_tracing() -> "Tracing | None":
    """Tracing as the environment configures it; None if it names no exporter, or the extra is not installed."""
    if not is_trace_exporter_named():
        return None
    if find_spec("opentelemetry") is None or find_spec("opentelemetry.sdk") is None:
        log.warning("a trace exporter is configured, but the extra 'otel' is not installed")
        return None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME as NAME_KEY
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create()
    if str(resource.attributes.get(NAME_KEY, UNNAMED)).startswith(UNNAMED):
        resource = resource.merge(Resource({NAME_KEY: SERVICE_NAME}))
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Tracing(provider)


class Tracing:
    """Starts spans through the SDK.

    Attributes:
        provider: the SDK's tracer provider.
    """

    def __init__(self, provider: "TracerProvider") -> None:
        from opentelemetry import trace

        self.provider = provider
        self._tracer = provider.get_tracer("absorb.service")
        self._trace = trace

    def begin(
        self, path: str, parent: TraceParent | None, states: list[bytes], request: RequestContext
    ) -> "RequestSpan | None":
        """Start a request's span and set the request's trace id. Returns None if the span is not recorded."""
        if path.startswith(EXCLUDED) or path.endswith(PROBED):
            return None
        trace = self._trace
        context = None
        if parent is not None:
            headers = [state.decode("latin-1") for state in states]
            remote = trace.SpanContext(
                int(parent.trace_id, 16),
                int(parent.parent_id, 16),
                is_remote=True,
                trace_flags=trace.TraceFlags(parent.sampled),
                trace_state=trace.TraceState.from_header(headers),
            )
            context = trace.set_span_in_context(trace.NonRecordingSpan(remote))
        span = self._tracer.start_span("request", context, trace.SpanKind.SERVER)
        identity = span.get_span_context()
        if identity.is_valid:
            request.trace_id = trace.format_trace_id(identity.trace_id)
        return RequestSpan(self._tracer, span) if span.is_recording() else None

    def close(self) -> None:
        """Export the remaining spans, waiting at most `CLOSE_LIMIT_S`."""
        closing = threading.Thread(target=self.provider.shutdown, daemon=True)
        closing.start()
        closing.join(CLOSE_LIMIT_S)


class RequestSpan:
    """A recorded span of a request."""

    def __init__(self, tracer: "Tracer", span: "Span") -> None:
        self._tracer = tracer
        self._span = span
        self._began_ns = time.time_ns()

    def end(self, route: str, method: str, status: int, request: RequestContext) -> None:
        """End the span, with the request's outcome and its stages."""
        from opentelemetry.trace import StatusCode

        self._span.update_name(f"{method} {route}")
        self._span.set_attributes(
            {
                "http.request.method": method,
                "http.route": route,
                "http.response.status_code": status,
                "absorb.request_id": request.request_id,
                "absorb.model": request.model,
                "absorb.generation": request.generation,
                "absorb.state_source": request.source,
            }
        )
        if status >= SERVER_ERROR:
            self._span.set_status(StatusCode.ERROR)
        self._add_stages(request)
        took_s = request.ended - request.started
        # This may run some time after the answer.
        self._span.end(self._began_ns + int(took_s * NANOSECONDS) if request.ended else None)

    def _add_stages(self, request: RequestContext) -> None:
        """Add the stages: they follow each other without a gap, and the last ends when the scores are ready."""
        from opentelemetry.trace import set_span_in_context

        context = set_span_in_context(self._span)
        began_s = request.scored - request.started - sum(request.stages.values())
        at_ns = self._began_ns + int(began_s * NANOSECONDS)
        for stage, took_s in request.stages.items():
            name = STAGE_NAMES.get(stage, stage)
            child = self._tracer.start_span(name, context, start_time=at_ns)
            at_ns += int(took_s * NANOSECONDS)
            child.end(at_ns)
