"""Spans of requests, for OpenTelemetry where the extra `otel` is installed and the environment names an exporter.

A request's span has a child for each stage of its scoring (cache, queue, decode, compute). The children are made when
the answer is sent, from the times that were taken anyway: until then, and for requests that are not sampled, a trace
costs nothing. Ids of users are in no span. The SDK reads its own variables (`OTEL_*`): sampler, resource, exporter,
batches. It exports from a thread of its own out of a bounded queue, so an exporter that is down loses spans and
nothing else.
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
"""Beginnings of paths of which nobody wants a trace."""
PROBED = ("/ready", "Ready", "ServerLive")
"""The same for ends: those of single models, and gRPC's probes."""
SERVICE_NAME = "absorb"
UNNAMED = "unknown_service"
"""How the SDK's own name for a service begins that nothing names."""
CLOSE_LIMIT_S = 2.0
NANOSECONDS = 1_000_000_000
SERVER_ERROR = 500

log = logging.getLogger(__name__)


def make_tracing() -> "Tracing | None":
    """What the environment asks for; None where it names no exporter, or the extra is not installed."""
    if not is_trace_exporter_named():
        return None
    if find_spec("opentelemetry") is None or find_spec("opentelemetry.sdk") is None:
        log.warning("an exporter of traces is named, but the extra 'otel' is not installed")
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
    """Begins spans, through the SDK."""

    def __init__(self, provider: "TracerProvider") -> None:
        from opentelemetry import trace

        self.provider = provider
        self._tracer = provider.get_tracer("absorb.service")
        self._trace = trace

    def begin(
        self, path: str, parent: TraceParent | None, states: list[bytes], about: RequestContext
    ) -> "RequestSpan | None":
        """Begin a request's span; None where it is not recorded. Sets the request's trace id."""
        if path.startswith(EXCLUDED) or path.endswith(PROBED):
            return None
        trace = self._trace
        context = None
        if parent is not None:
            headers = [state.decode("latin-1") for state in states]
            remote = trace.SpanContext(
                int(parent.trace_id, 16), int(parent.parent_id, 16), is_remote=True,
                trace_flags=trace.TraceFlags(parent.sampled), trace_state=trace.TraceState.from_header(headers),
            )  # fmt: skip
            context = trace.set_span_in_context(trace.NonRecordingSpan(remote))
        span = self._tracer.start_span("request", context, trace.SpanKind.SERVER)
        identity = span.get_span_context()
        if identity.is_valid:
            about.trace_id = trace.format_trace_id(identity.trace_id)
        return RequestSpan(self._tracer, span) if span.is_recording() else None

    def close(self) -> None:
        """Export what is left, and wait no longer for it than the limit."""
        closing = threading.Thread(target=self.provider.shutdown, daemon=True)
        closing.start()
        closing.join(CLOSE_LIMIT_S)


class RequestSpan:
    """A request's span that has begun and is recorded."""

    def __init__(self, tracer: "Tracer", span: "Span") -> None:
        self._tracer = tracer
        self._span = span
        self._began_ns = time.time_ns()

    def end(self, route: str, method: str, status: int, about: RequestContext) -> None:
        """Say how it went, and when each stage was; now is its end."""
        from opentelemetry.trace import StatusCode

        self._span.update_name(f"{method} {route}")
        self._span.set_attributes(
            {
                "http.request.method": method,
                "http.route": route,
                "http.response.status_code": status,
                "absorb.request_id": about.request_id,
                "absorb.model": about.model,
                "absorb.generation": about.generation,
                "absorb.state_source": about.source,
            }
        )
        if status >= SERVER_ERROR:
            self._span.set_status(StatusCode.ERROR)
        self._add_stages(about)
        self._span.end()

    def _add_stages(self, about: RequestContext) -> None:
        """The stages follow each other without a gap, and the last ends when the scores are there."""
        from opentelemetry.trace import set_span_in_context

        context = set_span_in_context(self._span)
        began_s = about.scored - about.started - sum(about.stages.values())
        at_ns = self._began_ns + int(began_s * NANOSECONDS)
        for stage, took_s in about.stages.items():
            name = STAGE_NAMES.get(stage, stage)
            child = self._tracer.start_span(name, context, start_time=at_ns)
            at_ns += int(took_s * NANOSECONDS)
            child.end(at_ns)
