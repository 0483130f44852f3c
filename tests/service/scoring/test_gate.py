"""Overload, deadlines and clients that leave, over a service whose scores take as long as the test says."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from starlette.types import Message

from service.runtime.readiness import STUCK_S, Readiness
from service.runtime.workers import Workers
from service.settings import Settings
from service.transport.deadline import deadline_after, read_terms
from tests.service.toy import Toy
from tests.service.world import Running, World

pytestmark = pytest.mark.anyio
BODY = {"user_id": "ann", "candidates": ["i1"]}


@contextmanager
def busy(service: Running, num_threads: int = 64) -> Iterator[threading.Event]:
    """Every thread at work until the event is set: scores wait behind it as behind a slow model."""
    end = threading.Event()
    for _ in range(num_threads):
        service.workers.submit(end.wait, 20)
    try:
        yield end
    finally:
        end.set()


async def until(is_so: Any) -> None:
    async with asyncio.timeout(10):
        while not is_so():
            await asyncio.sleep(0.005)


def ask(service: Running, **headers: str) -> "asyncio.Task[Any]":
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return asyncio.create_task(service.client.post("/v1/score", json=BODY, headers=names))


async def test_a_request_is_answered_at_its_deadline_whatever_it_waits_for(world: World):
    world.publish(Toy())
    async with world.service(max_in_flight=1) as service:
        with busy(service):
            asked = [ask(service, X_Request_Timeout_Ms="60") for _ in range(2)]
            answers = await asyncio.gather(*asked)
            # The first had a place and waited for a thread, the second waited for the place: both are free again.
            await until(lambda: service.metric("absorb_in_flight") == 0)
            late = service.metric("absorb_rejected_total", reason="deadline")
        after = await service.score()
    assert [answer.status_code for answer in answers] == [504, 504]
    assert answers[0].json()["error"].startswith("deadline exceeded: ")
    assert (late, after["degraded"]) == (2, False)


async def test_a_score_that_goes_on_keeps_its_place_until_it_ends(world: World):
    world.publish(Toy())
    begun, end = threading.Event(), threading.Event()
    async with world.service(max_in_flight=1, max_queue=0) as service:
        (serving,) = service.selection.serving.values()
        score = serving.scorer.score_many

        def slow(*args: Any) -> Any:
            begun.set()
            end.wait(20)
            return score(*args)

        serving.scorer.score_many = slow  # type: ignore[method-assign,assignment]
        asked = ask(service, X_Request_Timeout_Ms="1000")
        await until(begun.is_set)
        late = await asked
        during = await ask(service)
        in_flight = service.metric("absorb_in_flight")
        end.set()
        await until(lambda: service.metric("absorb_in_flight") == 0)
        after = await service.score()
        lookups = service.metric("absorb_cache_lookups_total", model="toy")
    assert (late.status_code, during.status_code, in_flight) == (504, 429, 1)
    assert (after["degraded"], lookups) == (False, 2)


async def test_the_queue_is_bounded_and_the_urgent_go_first(world: World):
    world.publish(Toy())
    ended: list[str] = []
    async with world.service(max_in_flight=1, max_queue=2, max_queue_wait_ms=5000) as service:

        async def asked_as(name: str, priority: str) -> Any:
            answer = await ask(service, X_Request_Priority=priority)
            ended.append(name)
            return answer.status_code, answer.headers.get("retry-after")

        with busy(service):
            tasks = {}
            for name, priority in [("first", "0"), ("low", "5"), ("usual", "0"), ("urgent", "1")]:
                tasks[name] = asyncio.create_task(asked_as(name, priority))
                await asyncio.sleep(0.05)
            depth = service.metric("absorb_queue_depth")
            full = await ask(service)
            live = await service.client.get("/health/live")
            metrics = await service.client.get("/metrics")
        results = {name: await task for name, task in tasks.items()}
        counts = {
            reason: service.metric("absorb_rejected_total", reason=reason)
            for reason in ("pushed_out", "queue_full")
        }
    assert ended == ["low", "first", "urgent", "usual"]
    assert results["low"] == (429, "1")
    assert {results[name][0] for name in ("first", "urgent", "usual")} == {200}
    assert (depth, full.status_code, counts) == (2, 429, {"pushed_out": 1, "queue_full": 1})
    assert (live.status_code, metrics.status_code) == (200, 200)


async def test_nobody_waits_for_a_place_longer_than_the_limit(world: World):
    world.publish(Toy())
    async with world.service(max_in_flight=1, max_queue_wait_ms=30) as service:
        with busy(service):
            first = ask(service)
            await asyncio.sleep(0.02)
            second = await ask(service)
        assert (await first).status_code == 200
    assert second.status_code == 429
    assert "no place in 30 ms" in second.json()["error"]


async def test_a_client_that_left_is_not_worked_for(world: World):
    world.publish(Toy())
    async with world.service(max_in_flight=1) as service:
        with busy(service):
            first = ask(service)
            await until(lambda: service.metric("absorb_in_flight") == 1)
            left = asyncio.Event()
            serving = asyncio.create_task(_ask_and_leave(service, left))
            await until(lambda: service.metric("absorb_queue_depth") == 1)
            left.set()
            await until(lambda: service.metric("absorb_queue_depth") == 0)
            await serving
        assert (await first).status_code == 200
        labels = {"route": "/v1/score", "method": "POST", "model": "", "code": "499"}
        assert service.metric("absorb_requests_total", **labels) == 1


async def _ask_and_leave(service: Running, left: asyncio.Event) -> None:
    messages = [{"type": "http.request", "body": b'{"user_id": "ann", "candidates": ["i1"]}'}]

    async def receive() -> Message:
        if messages:
            return messages.pop()
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(_: Message) -> None:
        """Nobody reads it."""

    scope = {
        "type": "http", "method": "POST", "path": "/v1/score", "headers": [], "query_string": b"",
        "client": ("127.0.0.1", 1), "server": ("test", 80), "scheme": "http", "root_path": "",
        "raw_path": b"/v1/score", "http_version": "1.1", "asgi": {"version": "3.0"},
    }  # fmt: skip
    await service.app(scope, receive, send)


async def test_a_slow_cache_takes_no_more_than_half_of_the_time(world: World):
    world.publish(Toy())
    async with world.service(cache_timeout_ms=5000) as service:
        with world.redis as client:
            client.client_pause(1000)
            answer = await ask(service, X_Request_Timeout_Ms="400")
            client.client_unpause()
    assert answer.status_code == 200
    assert answer.json()["state"]["source"] == "unavailable"


@pytest.mark.parametrize(
    ("header", "said"),
    [("X-Request-Timeout-Ms", bad) for bad in ("0", "-1", "1.5", "soon", "", "9" * 30, "²")]
    + [("X-Request-Priority", bad) for bad in ("-1", "high", "")],
)
async def test_terms_that_are_no_number_are_refused(header: str, said: str):
    with pytest.raises(Exception, match=f"{header}: got '{said}', expected a whole number"):
        read_terms({header: said}, Settings())


async def test_terms_have_defaults_and_a_maximum():
    chosen = Settings(timeout_ms=1000, max_timeout_ms=2000)
    now = deadline_after(chosen, 0.0)
    usual, level = read_terms({}, chosen)
    longest, urgent = read_terms(
        {"X-Request-Timeout-Ms": "999999", "X-Request-Priority": "1"}, chosen
    )
    assert usual - now == pytest.approx(1, abs=0.1)
    assert longest - now == pytest.approx(2, abs=0.1)
    assert (level, urgent) == (0, 1)


async def test_threads_that_are_stuck_or_give_nothing_are_not_ready(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    world.publish(Toy())
    monkeypatch.setattr("service.runtime.readiness.LIMIT_S", 0.05)
    async with world.service() as service:
        well = await service.ready()
        with busy(service):
            hung = await service.ready()
            live = await service.client.get("/health/live")
            monkeypatch.setattr("service.runtime.readiness.STUCK_S", -1.0)
            stuck = await service.client.get("/health/ready")
            monkeypatch.setattr("service.runtime.readiness.STUCK_S", STUCK_S)
        again = await service.ready()
    assert (well.status_code, hung.status_code, stuck.status_code) == (200, 503, 503)
    assert hung.json()["error"] == "not ready: no score in 0.05 s"
    assert "a thread has been scoring for" in stuck.json()["error"]
    assert (live.status_code, again.status_code) == (200, 200)


async def test_a_finding_grows_old_and_draining_is_for_good(monkeypatch: pytest.MonkeyPatch):
    async def well() -> None:
        pass

    workers = Workers(1)
    readiness = Readiness(well, workers)
    with pytest.raises(Exception, match="no score was tried yet"):
        readiness.check()
    await readiness.look()
    readiness.check()
    monkeypatch.setattr("service.runtime.readiness.MAX_AGE_S", -1.0)
    with pytest.raises(Exception, match="the latest score was tried"):
        readiness.check()
    readiness.drain()
    with pytest.raises(Exception, match="draining"):
        readiness.check()
    workers.shutdown()
