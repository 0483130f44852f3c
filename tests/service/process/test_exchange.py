"""Requests that are read and answered without ASGI messages get the same answers, byte for byte, and count the same."""

import asyncio
import gzip
import json
import random
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.server import ServerState

from service.__main__ import HEADERS
from service.process.connections import BoundedProtocol
from service.transport.exchange import Arrivals
from tests.service.toy import Toy
from tests.service.world import Running, World, until

pytestmark = pytest.mark.anyio
CHANGING = [
    (rb'"timings_ms":\{[^}]*\}', b'"timings_ms":{}'),
    (rb"server-timing: [^\r]*", b"server-timing: "),
    (rb"content-length: \d+", b"content-length: "),
    (rb"x-request-id: [0-9a-f]{32}\r", b"x-request-id: made\r"),
]
"""What two answers to one request may differ in."""
RESET = b"(reset)"


def without_exchange(app: ASGIApp) -> ASGIApp:
    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        scope["extensions"] = {}
        await app(scope, receive, send)

    return wrapped


@asynccontextmanager
async def listening(app: ASGIApp, arrivals: Arrivals | None = None) -> AsyncIterator[int]:
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off")
    config.load()
    state = ServerState()
    state.default_headers = [(name.encode(), value.encode()) for name, value in HEADERS]
    server = await asyncio.get_running_loop().create_server(
        lambda: BoundedProtocol(arrivals, config=config, server_state=state, app_state={}),
        "127.0.0.1",
    )
    async with server:
        yield server.sockets[0].getsockname()[1]


async def answers(port: int, parts: list[bytes]) -> bytes:
    """All that the service sends until it closes the connection, or until nothing comes for some time."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for part in parts:
        writer.write(part)
        await asyncio.sleep(0.002)
    raw = b""
    try:
        while more := await asyncio.wait_for(reader.read(1 << 16), 2):
            raw += more
    except TimeoutError:
        raw += b"(open)"
    except ConnectionError:  # closed before all was read: what was on its way is lost
        return RESET
    finally:
        writer.close()
    for pattern, text in CHANGING:
        raw = re.sub(pattern, text, raw)
    return raw


BODIES = [
    {"user_id": "ann", "candidates": ["i1", "i5", "none"]},
    {"user_id": "nobody", "candidates": ["i2"] * 40, "top_k": 3},
    {"user_id": "ann", "candidates": []},
    {"user_id": "ann", "candidates": ["i1"], "model": "no such"},
    {"user_id": "änn", "candidates": ["i1", 7]},
    {"user_id": "ann", "candidates": ["i1"], "more": 1},
    {"user_id": "ann", "candidates": ["i1"] * 9000},
]


def request(rng: random.Random) -> bytes:
    method = rng.choice(["POST"] * 12 + ["HEAD", "GET", "PUT"])
    path = rng.choice(["/v1/score"] * 12 + ["/v1/compare", "/nothing", "/health/live"])
    version = rng.choice(["1.1"] * 8 + ["1.0"])
    body = json.dumps(rng.choice(BODIES)).encode()
    if rng.random() < 0.1:
        body = body[: rng.randrange(len(body))]
    lines = ["Host: 127.0.0.1", *rng.sample(UNUSUAL, rng.choice([0, 0, 0, 1, 2]))]
    if rng.random() < 0.15:
        body = gzip.compress(body)
        lines.append("Content-Encoding: gzip")
    if version == "1.1" and rng.random() < 0.15:
        lines.append("Transfer-Encoding: chunked")
        half = len(body) // 2 or len(body)
        chunks = [body[:half], body[half:], b""]
        body = b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in chunks if c or c is chunks[-1])
    else:
        lines.append(f"Content-Length: {len(body)}")
    head = "\r\n".join([f"{method} {path} HTTP/{version}", *lines, "", ""])
    return head.encode() + body


UNUSUAL = [
    "Connection: close",
    "Connection: keep-alive",
    "Origin: http://elsewhere.example",
    "X-Request-Id: from-the-client",
    "X-Request-Timeout-Ms: 0",
    "X-Request-Timeout-Ms: 5000",
    "X-Request-Priority: x",
    "Content-Encoding: br",
    "Expect: 100-continue",
]


def cut(rng: random.Random, raw: bytes) -> list[bytes]:
    if rng.random() < 0.6:
        return [raw]
    at = sorted(rng.randrange(len(raw)) for _ in range(2))
    return [raw[: at[0]], raw[at[0] : at[1]], raw[at[1] :]]


@pytest.mark.parametrize("seed", range(4))
async def test_answers_are_those_of_asgi_messages(world: World, seed: int):
    world.publish(Toy())
    rng = random.Random(seed)
    async with (
        world.service(inline_ms=60_000.0, host_cache_bytes=0) as service,
        listening(service.app) as port,
        listening(without_exchange(service.app)) as other,
    ):
        drawn = [
            cut(rng, b"".join(request(rng) for _ in range(rng.choice([1, 1, 2, 3]))))
            for _ in range(25)
        ]
        short = await asyncio.gather(*(answers(port, parts) for parts in drawn))
        asgi = await asyncio.gather(*(answers(other, parts) for parts in drawn))
    for parts, one, two in zip(drawn, short, asgi, strict=True):
        assert one == two or RESET in (one, two), (parts, one, two)
    assert sum(b"HTTP/1.1 200" in one and one == two for one, two in zip(short, asgi, strict=True))


SCORE = json.dumps({"user_id": "ann", "candidates": ["i1", "i5"]}).encode()
HEAD = b"POST /v1/score HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n" % len(SCORE)


async def test_answers_are_counted_once_they_are_sent(world: World):
    world.publish(Toy())
    async with world.service() as service, listening(service.app) as port:
        for _ in range(3):
            assert b"200 OK" in await answers(port, [HEAD + b"\r\n" + SCORE])
        await until(lambda: counted(service) == 3)
        took_s = service.metric("absorb_request_duration_seconds_sum", route="/v1/score")
        assert 0 < took_s < 60
        assert service.metric("absorb_candidates_count", model="toy") == 3
        assert service.metric("absorb_in_flight") == 0


def counted(service: Running) -> float:
    labels = {"route": "/v1/score", "method": "POST", "model": "toy", "code": "200"}
    return service.metric("absorb_requests_total", **labels)


async def test_a_slow_request_is_captured_whole(world: World):
    world.publish(Toy())
    async with world.service(slow_ms=0.001) as service, listening(service.app) as port:
        assert b"200 OK" in await answers(port, [HEAD + b"\r\n" + SCORE])
        kept = (await service.client.get("/v1/slow")).json()
    assert json.loads(kept["body"]) == json.loads(SCORE)
    assert "scores" in json.loads(kept["answer"])


async def test_requests_count_from_their_arrival_until_their_answer():
    arrivals, release = Arrivals(), asyncio.Event()
    numbers: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        numbers.append(arrivals.number())
        await release.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    assert arrivals.number() == 0
    async with listening(app, arrivals) as port:
        sent = [asyncio.create_task(answers(port, [HEAD + b"\r\n" + SCORE])) for _ in range(5)]
        await until(lambda: arrivals.number() == 5)
        release.set()
        await asyncio.gather(*sent)
        await until(lambda: arrivals.number() == 0)
    assert max(numbers) <= 5
