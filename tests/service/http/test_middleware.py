"""Request ids, access lines, labels that strangers cannot make, and a scrape that neither blocks nor is blocked."""

import asyncio
import json
import logging
import threading
from collections.abc import AsyncIterator

import pytest
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from starlette.types import Message

from service.observability.exposition import Scrape
from service.observability.json_log import JsonFormatter
from tests.service.toy import AS_OF_S, Toy
from tests.service.world import Running, World

pytestmark = pytest.mark.anyio
TOY = Toy()
BODY = {"user_id": "secret-ann", "candidates": ["i1"]}
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE_ID}-00f067aa0ba902b7-01"


class Lines(logging.Handler):
    """Formats at once, as the process's own handler does: ids are those of the request that logs."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[dict[str, object]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(json.loads(JsonFormatter().format(record)))


@pytest.fixture
def lines():
    handler, logger = Lines(), logging.getLogger("service")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel("DEBUG")
    yield handler.lines
    logger.removeHandler(handler)
    logger.setLevel(level)


@pytest.fixture(scope="module")
async def service(module_world: World) -> AsyncIterator[Running]:
    async with module_world.service() as service:
        yield service


@pytest.mark.parametrize(
    "offered", ["a", "x" * 128, "!~9f-_/:=", "550e8400-e29b-41d4-a716-446655440000"]
)
async def test_a_request_id_is_echoed(service: Running, offered: str):
    for path in ("/health/live", "/nowhere", "/v1/models"):
        answer = await service.client.get(path, headers={"x-request-id": offered})
        assert answer.headers.get_list("x-request-id") == [offered]


@pytest.mark.parametrize("offered", [b"", b"x" * 129, b"a b", b"a\tb", b"caf\xe9", b"\x7f"])
async def test_an_invalid_id_is_replaced(service: Running, offered: bytes):
    made = set()
    for _ in range(2):
        answer = await service.client.get("/health/live", headers=[(b"x-request-id", offered)])
        made.add(answer.headers["x-request-id"])
    assert len(made) == 2
    assert all(len(one) == 32 and int(one, 16) for one in made)


async def test_every_line_of_a_request_has_its_ids(world: World, lines):
    world.publish(TOY)
    async with world.service(access_log="INFO") as service:
        service.workers.shutdown()
        headers = {"x-request-id": "r-1", "traceparent": TRACEPARENT}
        await service.client.post("/v1/score", json=BODY, headers=headers)
        await service.client.get(
            "/health/live", headers={"x-request-id": "r-2", "traceparent": "?"}
        )
    failed, scored, alive = [line for line in lines if "request_id" in line]
    assert (failed["message"], failed["request_id"], failed["trace_id"]) == (
        "request failed",
        "r-1",
        TRACE_ID,
    )
    assert (scored["message"], scored["request_id"], scored["trace_id"]) == (
        "request",
        "r-1",
        TRACE_ID,
    )
    assert (alive["request_id"], alive["status"]) == ("r-2", 200)
    assert "trace_id" not in alive


async def test_the_access_log_has_the_outcome_and_no_user(world: World, lines):
    generation = world.publish(TOY)
    async with world.service(access_log="DEBUG") as service:
        await service.client.post("/v1/score", json=BODY)
        await service.client.get("/v1/users/secret-ann")
    line, other = [one for one in lines if one["logger"] == "service.access"]
    assert line["level"] == "DEBUG"
    fields = {
        name: line[name]
        for name in ("method", "route", "status", "model", "generation", "source", "degraded")
    }
    assert fields == {
        "method": "POST",
        "route": "/v1/score",
        "status": 200,
        "model": "toy",
        "generation": generation.name,
        "source": "miss",
        "degraded": True,
    }
    assert line["took_ms"] >= sum(line["stages_ms"].values()) * 0.99  # rounded
    assert set(line["stages_ms"]) == {"cache", "queue", "decode", "score"}
    assert other["route"] == "/v1/users/{user_id:path}"
    assert "secret" not in json.dumps([line, other])


async def test_users_are_in_the_access_log_if_a_setting_says_so(world: World, lines):
    world.publish(TOY)
    async with world.service(access_log="INFO", log_user_ids=True) as service:
        await service.client.post("/v1/score", json=BODY)
    (line,) = [one for one in lines if one["logger"] == "service.access"]
    assert line["user_id"] == "secret-ann"


async def test_there_is_no_access_log_by_default(world: World, lines):
    async with world.service() as service:
        await service.client.get("/health/live")
    assert not [one for one in lines if one["logger"] == "service.access"]


async def test_strangers_make_no_labels(world: World):
    world.publish(TOY)
    async with world.service() as service:
        for n in range(5):
            body = {**BODY, "model": f"stranger{n}"}
            await service.client.post(
                "/v1/score", json=body, headers={"x-request-id": f"stranger{n}"}
            )
            await service.client.request(f"STRANGER{n}", f"/stranger{n}")
        text = (await service.client.get("/metrics")).text
        unknown = {"route": "/v1/score", "method": "POST", "model": "", "code": "404"}
        assert service.metric("absorb_requests_total", **unknown) == 5
        other = {"route": "unmatched", "method": "other", "model": "", "code": "404"}
        assert service.metric("absorb_requests_total", **other) == 5
    assert "stranger" not in text.lower()


async def test_defaults_are_counted_by_why(world: World):
    generation = world.publish(TOY)
    world.put(generation.key("bob"), b"no record")
    async with world.service() as service:
        for user in ("ann", "bob", "nobody", "nobody"):
            await service.score(user)
        found = {
            reason: service.metric("absorb_defaults_total", model="toy", reason=reason)
            for reason in ("hit", "corrupt", "miss", "unavailable")
        }
    assert found == {"hit": 0, "corrupt": 1, "miss": 2, "unavailable": 0}


async def test_metrics_have_ages_and_the_build(world: World):
    world.publish(TOY)
    async with world.service(now_s=AS_OF_S + 100) as service:
        assert service.metric("absorb_generation_age_seconds", model="toy") == 40
        text = (await service.client.get("/metrics")).text
    assert 'absorb_build_info{python="3.' in text


async def test_openmetrics_is_returned_if_the_accept_header_names_it(world: World):
    world.publish(TOY)
    async with world.service() as service:
        await service.score()
        accept = {
            "accept": "application/openmetrics-text;version=nonsense,text/plain;version=0.0.4"
        }
        answer = await service.client.get("/metrics", headers=accept)
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1")
    assert "absorb_requests" in {one.name for one in text_string_to_metric_families(answer.text)}


class Slow(Collector):
    """A collector that waits for the test, and counts its calls."""

    def __init__(self) -> None:
        self.release, self.num_collected = threading.Event(), 0

    def collect(self):
        self.num_collected += 1
        self.release.wait(10)
        return iter(())


async def test_scrapes_at_the_same_time_share_one_and_leave_the_loop_free():
    registry, slow = CollectorRegistry(), Slow()
    slow.release.set()
    registry.register(slow)  # which asks once, for names
    Gauge("g", "", registry=registry).set(7)
    slow.release.clear()
    slow.num_collected = 0
    scrape = Scrape(registry)
    waiting = [asyncio.create_task(scrape.text("")) for _ in range(8)]
    await asyncio.sleep(0.05)  # the loop turns while the thread hangs
    assert not any(one.done() for one in waiting)
    waiting[0].cancel()  # a scraper that gives up takes nothing from the others
    await asyncio.sleep(0)
    slow.release.set()
    texts = await asyncio.gather(*waiting[1:])
    assert slow.num_collected == 1
    assert all(b"g 7.0" in text for text, _ in texts)
    scrape.close()


@pytest.mark.parametrize(
    ("reason", "is_ours"),
    [
        ("unable to perform operation on <TCPTransport closed=True>; the handler is closed", False),
        ("Unexpected ASGI message", True),
    ],
)
async def test_a_disconnected_client_is_not_an_error(
    world: World, lines: list[dict[str, object]], reason: str, is_ours: bool
):
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/health/live",
        "headers": [],
        "query_string": b"",
    }

    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    async def send(_: Message) -> None:
        raise RuntimeError(reason)

    async with world.service() as service:
        await service.app(scope, receive, send)
        counted = {"route": "/health/live", "method": "GET", "model": "", "code": "200"}
        answers = service.metric("absorb_requests_total", **counted)
    assert bool([line for line in lines if line["message"] == "request failed"]) == is_ours
    assert answers == 1
