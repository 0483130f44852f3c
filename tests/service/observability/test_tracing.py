"""Spans as the OpenTelemetry SDK records them."""

import logging
import time

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import SpanKind, StatusCode

from service.observability.tracing import Tracing, make_tracing
from tests.service.toy import Toy
from tests.service.world import World

pytestmark = pytest.mark.anyio
TOY = Toy()
BODY = {"user_id": "secret-ann", "candidates": ["i1"]}
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


class Recorded:
    """The SDK with its exporter in memory."""

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self.exporter = InMemorySpanExporter()
        provider = provider or TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracing = Tracing(provider)

    @property
    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self.exporter.get_finished_spans()}


def trace_of(span: ReadableSpan) -> str:
    assert span.context is not None
    return f"{span.context.trace_id:032x}"


async def test_a_request_and_its_stages_are_one_trace(world: World):
    generation = world.publish(TOY)
    recorded = Recorded()
    headers = {
        "traceparent": f"00-{TRACE}-{PARENT}-01",
        "tracestate": "a=1,b=2",
        "x-request-id": "r-1",
    }
    async with world.service(tracing=recorded.tracing) as service:
        await service.client.post("/v1/score", json=BODY, headers=headers)
    spans = recorded.spans
    assert set(spans) == {"POST /v1/score", "cache", "queue", "decode", "compute"}
    root = spans.pop("POST /v1/score")
    assert root.kind is SpanKind.SERVER
    assert root.parent is not None
    assert root.context is not None
    assert (trace_of(root), f"{root.parent.span_id:016x}", root.parent.is_remote) == (
        TRACE,
        PARENT,
        True,
    )
    assert dict(root.context.trace_state) == {"a": "1", "b": "2"}
    assert root.attributes == {
        "http.request.method": "POST",
        "http.route": "/v1/score",
        "http.response.status_code": 200,
        "absorb.request_id": "r-1",
        "absorb.model": "toy",
        "absorb.generation": generation.name,
        "absorb.state_source": "miss",
    }
    assert root.start_time is not None
    at = root.start_time
    for name in ("cache", "queue", "decode", "compute"):
        span = spans[name]
        assert span.parent is not None
        assert span.parent.span_id == root.context.span_id
        assert trace_of(span) == TRACE
        assert span.start_time is not None
        assert span.end_time is not None
        assert at <= span.start_time <= span.end_time
        at = span.end_time
    assert root.end_time is not None
    assert at <= root.end_time + 1_000_000  # the wall clock and the steady one may differ that much
    assert "secret" not in str([span.to_json() for span in recorded.exporter.get_finished_spans()])


@pytest.mark.parametrize(
    ("flags", "sampler_says", "spans"),
    [("00", True, 0), ("01", True, 5), ("01", False, 5), ("00", False, 0)],
)
async def test_the_clients_sampled_flag_is_followed(
    world: World, flags: str, sampler_says: bool, spans: int
):
    world.publish(TOY)
    provider = (
        None if sampler_says else TracerProvider(ParentBased(ALWAYS_OFF), shutdown_on_exit=False)
    )
    recorded = Recorded(provider)
    async with world.service(tracing=recorded.tracing) as service:
        await service.client.post(
            "/v1/score", json=BODY, headers={"traceparent": f"00-{TRACE}-{PARENT}-{flags}"}
        )
    assert len(recorded.exporter.get_finished_spans()) == spans


@pytest.mark.parametrize(
    "value", [f"00-{'0' * 32}-{PARENT}-00", f"ff-{TRACE}-{PARENT}-00", "nonsense"]
)
async def test_a_malformed_header_starts_a_new_trace_without_its_state(world: World, value: str):
    world.publish(TOY)
    recorded = Recorded()
    headers = {"traceparent": value, "tracestate": "a=1"}
    async with world.service(tracing=recorded.tracing) as service:
        await service.client.post("/v1/score", json=BODY, headers=headers)
    root = recorded.spans["POST /v1/score"]
    assert root.parent is None
    assert root.context is not None
    assert trace_of(root) != TRACE
    assert not root.context.trace_state


async def test_an_overlong_tracestate_is_dropped_and_the_trace_continues(world: World):
    recorded = Recorded()
    states = ",".join(f"k{n}=v" for n in range(33))
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": states}
    async with world.service(tracing=recorded.tracing) as service:
        await service.client.get("/v1/models", headers=headers)
    root = recorded.spans["GET /v1/models"]
    assert root.context is not None
    assert trace_of(root) == TRACE
    assert not root.context.trace_state


async def test_probes_and_scrapes_are_not_traced_and_failures_are_marked(world: World):
    world.publish(TOY)
    recorded = Recorded()
    async with world.service(tracing=recorded.tracing) as service:
        for path in (
            "/health/live",
            "/health/ready",
            "/metrics",
            "/v2/health/live",
            "/v2/models/toy/ready",
        ):
            await service.client.get(path)
        assert recorded.spans == {}
        service.workers.shutdown()
        await service.client.post("/v1/score", json=BODY)
    (root,) = recorded.spans.values()
    assert root.status.status_code is StatusCode.ERROR


async def test_an_exporter_that_is_down_delays_neither_requests_nor_the_end(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    world.publish(TOY)
    monkeypatch.setenv(ENDPOINT, "http://127.0.0.1:9")  # the discard port: nothing listens
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "1")
    logging.getLogger("opentelemetry").setLevel("CRITICAL")
    tracing = make_tracing()
    assert tracing is not None
    async with world.service(tracing=tracing) as service:
        for _ in range(3):
            assert (await service.client.post("/v1/score", json=BODY)).status_code == 200
    began = time.monotonic()
    tracing.close()
    assert time.monotonic() - began < 10
    logging.getLogger("opentelemetry").setLevel("NOTSET")


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {ENDPOINT: ""},
        {ENDPOINT: "http://x", "OTEL_SDK_DISABLED": "true"},
        {ENDPOINT: "http://x", "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_there_is_no_tracing_without_a_configured_exporter(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
):
    for name in (ENDPOINT, "OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert make_tracing() is None


@pytest.mark.parametrize(("variable", "name"), [(None, "absorb"), ("mine", "mine")])
def test_the_sdk_reads_its_own_variables(
    variable: str | None, name: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(ENDPOINT, "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "region=north")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
    if variable:
        monkeypatch.setenv("OTEL_SERVICE_NAME", variable)
    tracing = make_tracing()
    assert tracing is not None
    attributes = tracing.provider.resource.attributes
    assert (attributes["service.name"], attributes["region"]) == (name, "north")
    assert "AlwaysOff" in tracing.provider.sampler.get_description()
    tracing.close()
