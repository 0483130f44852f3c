"""Calls at a real server: what an exception becomes, and what happens when too many calls are open."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from loadtest.chaos.http2 import Answer, Peer, data, head, message
from service.observability.metrics import Telemetry
from service.observability.request_log import RequestLog
from service.settings import Settings
from service.transport.auth import Access, Role
from service.transport.body import BodyLimit
from service.v2 import grpc_calls
from service.v2.grpc_calls import Calls
from service.v2.grpc_transport import SERVICE, make_server

pytestmark = pytest.mark.anyio
REGISTRY_NAME = "absorb_requests_total"


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[int, CollectorRegistry]]:
    """Port and metrics of a server with a probe, an echo, and a call that fails."""

    async def echo(raw: bytes, _: Any) -> bytes:
        return raw

    async def fail(_: bytes, __: Any) -> bytes:
        raise ValueError("a secret")

    registry, settings = CollectorRegistry(), Settings()
    calls = Calls(
        RequestLog(Telemetry(registry), settings), Access(settings), BodyLimit(1000, 60.0)
    )
    handlers = {
        "Probe": calls.handler("Probe", None, echo),
        "Echo": calls.handler("Echo", Role.SCORING, echo),
        "Fail": calls.handler("Fail", Role.SCORING, fail),
    }
    server = make_server(1000, handlers, calls.refuse)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port, registry
    finally:
        await server.stop(0)


def counted(registry: CollectorRegistry, call: str, code: str) -> float | None:
    labels = {"route": f"/{SERVICE}/{call}", "method": "GRPC", "model": "", "code": code}
    return registry.get_sample_value(REGISTRY_NAME, labels)


async def ended(peer: Peer, call: str, stream: int) -> Answer:
    path = f"/{SERVICE}/{call}".encode()
    await peer.send(head(path, stream=stream) + data(message(b"x"), stream))
    return await peer.answer(stream)


async def test_an_unexpected_exception_is_internal_and_says_nothing():
    async with serving() as (port, registry):
        peer = await Peer.open(port)
        got = await ended(peer, "Fail", 1)
        peer.abort()
    assert (got.code, got.text) == (13, "internal error; the log says more")
    assert "secret" not in str(got.metadata)
    assert counted(registry, "Fail", "500") == 1


async def test_calls_beyond_those_that_may_be_open_are_rejected(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(grpc_calls, "MAX_OPEN", 2)
    async with serving() as (port, registry):
        peer = await Peer.open(port)
        for stream in (1, 3):
            await peer.send(head(f"/{SERVICE}/Echo".encode(), stream=stream))
        rejected = await ended(peer, "Echo", 5)
        probed = await ended(peer, "Probe", 7)
        await peer.send(data(message(b"x"), 1))
        assert (await peer.answer(1)).code == 0
        after = await ended(peer, "Echo", 9)
        peer.abort()
    assert (rejected.code, rejected.metadata["retry-after"]) == (8, "1")
    assert "overloaded: 3 calls are open" in rejected.text
    assert (probed.code, after.code) == (0, 0)
    assert counted(registry, "Echo", "429") == 1
