"""What is refused must cost little: processor time of refused bodies, as multiples of that of one small score.

Processor time, not the clock: it does not depend on what else runs on the machine.
"""

import asyncio
import gc
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.contract.errors import RequestError
from service.transport.limits import LARGE_BYTES, JsonBound
from service.transport.parser_thread import MAX_WAITING
from tests.fuzzing import Send, check_refusal, drawn, serving
from tests.hostile_bodies import (
    GOOD,
    HERE,
    INFER,
    MANY_BYTES,
    ONE,
    SCORE,
    UNITS,
    Hostile,
    filled,
    inputs,
    refused,
    tensor,
)
from tests.service.toy import Toy
from tests.service.world import Running, World, until

REFUSED = refused()
MOST = 50
"""Bound of the processor time of a refused body, in small scores. A body of 1 MiB takes 5 to 13, its bytes alone 4;
36 when other processes empty the processor's caches. Before lengths were checked first, it was up to 870."""
REPEATS = 3
PLACED = Toy(candidate_names=("display", "mailer"))
SMALL = Hostile(SCORE, json.dumps(GOOD).encode())
LARGE = Hostile(SCORE, json.dumps(GOOD).encode().ljust(LARGE_BYTES + 1))


@pytest.fixture(scope="module", autouse=True)
def frozen() -> Iterator[None]:
    """Keep the collector off what was there before, as `python -m service` does: lists in a body wake it."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
async def service(module_world: World) -> AsyncIterator[Running]:
    module_world.publish(PLACED)
    async with module_world.service() as service:
        yield service


async def post(service: Running, request: Hostile) -> httpx.Response:
    answering = service.client.post(
        request.path, content=request.body, headers=dict(request.headers)
    )
    response = await answering
    check_refusal(response)
    return response


async def cpu_s(service: Running, request: Hostile, repeats: int = REPEATS) -> tuple[int, float]:
    """Status, and the least processor time of this process, of `repeats` tries."""
    times, status = [], 0
    for _ in range(repeats):
        start = time.process_time()
        status = (await post(service, request)).status_code
        times.append(time.process_time() - start)
    return status, min(times)


@pytest.fixture(scope="module")
async def small_s(service: Running) -> float:
    status, took_s = await cpu_s(service, SMALL, 20)
    assert status == 200
    return took_s


@pytest.mark.anyio
@pytest.mark.parametrize("what", REFUSED)
async def test_a_refused_body_costs_little(service: Running, small_s: float, what: str) -> None:
    status, took_s = await cpu_s(service, REFUSED[what])
    assert status == 400
    assert took_s < MOST * small_s


PLACES: dict[str, Any] = {
    "candidates": (SCORE, {**GOOD, "candidates": HERE}),
    "recent": (SCORE, {**GOOD, "recent": HERE}),
    "user": (SCORE, {**GOOD, "user_id": HERE}),
    "context": (SCORE, {**GOOD, "context": HERE}),
    "model": (SCORE, {**GOOD, "model": HERE}),
    "models": ("/v1/compare", {**GOOD, "models": HERE}),
    "id": (SCORE, {**GOOD, "candidates": [{"id": HERE}]}),
    "fields": (SCORE, {**GOOD, "candidates": [{"id": "i1", "fields": HERE}]}),
    "field": (SCORE, {**GOOD, "candidates": [{"id": "i1", "fields": {"display": HERE}}]}),
    "users": ("/v1/prefetch", {"user_ids": HERE}),
    "inputs": (INFER, {"inputs": HERE}),
    "shape": (INFER, inputs({**ONE, "shape": HERE})),
    "data": (INFER, inputs(tensor("candidates", HERE, [9]))),
    "v2 recent": (INFER, inputs(ONE, tensor("recent", HERE, [5000], "INT64"))),
    "unknown": (INFER, inputs(ONE, tensor("elsewhere", HERE, [2, 3]))),
    "outputs": (INFER, inputs(ONE, outputs=HERE)),
    "v2 parameters": (INFER, inputs(ONE, parameters=HERE)),
}


@st.composite
def wide_bodies(draw: st.DrawFn) -> Hostile:
    """A body in which one list is long: of any elements, in any place, of any length up to the limit."""
    path, document = PLACES[draw(st.sampled_from(sorted(PLACES)))]
    unit, depth = draw(st.sampled_from(UNITS)), draw(st.sampled_from([0, 0, 1, 7, 150]))
    num_bytes = draw(st.sampled_from([LARGE_BYTES, MANY_BYTES]) | st.integers(2000, MANY_BYTES))
    return Hostile(path, filled(document, "[" * depth + unit + "]" * depth, num_bytes))


def test_no_long_list_costs_much(world: World) -> None:
    with serving(world, PLACED) as send:

        def cost_s(request: Hostile, repeats: int) -> tuple[int, float]:
            times, status = [], 0
            for _ in range(repeats):
                start = time.process_time()
                status = send("POST", request.path, request.body, {}).status_code
                times.append(time.process_time() - start)
            return status, min(times)

        status, small_s = cost_s(SMALL, 20)
        assert status == 200

        @drawn(60)
        @given(wide_bodies())
        def run(request: Hostile) -> None:
            status, hostile_s = cost_s(request, REPEATS)
            assert status in (200, 202, 400, 404)
            assert status < 300 or hostile_s < MOST * small_s

        run()


@pytest.mark.anyio
async def test_the_service_answers_while_a_large_body_is_parsed(service: Running) -> None:
    parsers, go_on = service.dependencies.parsers, threading.Event()
    blocked = asyncio.create_task(parsers.run(go_on.wait, 20))
    await until(lambda: parsers.waiting == 1)
    large = asyncio.create_task(post(service, LARGE))
    await until(lambda: parsers.waiting == 2)
    assert (await service.client.get("/health/live")).status_code == 200
    assert (await post(service, SMALL)).status_code == 200
    assert not large.done()
    go_on.set()
    assert (await large).status_code == 200
    assert await blocked


@pytest.mark.anyio
async def test_no_more_large_bodies_wait_than_a_number(service: Running) -> None:
    parsers, go_on = service.dependencies.parsers, threading.Event()
    blocked = [asyncio.create_task(parsers.run(go_on.wait, 20)) for _ in range(MAX_WAITING)]
    await until(lambda: parsers.waiting == MAX_WAITING)
    rejected = service.metric("absorb_rejected_total", reason="parser")
    refusal = await post(service, LARGE)
    go_on.set()
    await asyncio.gather(*blocked)
    assert refusal.status_code == 429
    assert "large bodies wait to be parsed" in refusal.text
    assert service.metric("absorb_rejected_total", reason="parser") == rejected + 1
    assert (await post(service, LARGE)).status_code == 200


BOUND = JsonBound(containers=10, values=20)
PAD = "x" * LARGE_BYTES


@pytest.mark.parametrize(
    "text",
    [
        "[" * 11,
        "{,]" * 11,
        '\\" [[[ \\\\' * 9,
        ", " * 21,
        '"\\\\" , \\n \\\\\\" [' * 50,
        'a "quoted, [text]" ' * 50,
    ],
)
def test_signs_within_strings_do_not_count(text: str) -> None:
    BOUND.check(json.dumps({"a": text, "pad": PAD, text: [1, "b"]}).encode())


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([[]] * 9, "11 lists and objects, expected at most 10"),
        ([1] * 85, "85 values, expected at most 84"),
    ],
)
def test_what_is_above_the_bound_is_counted_exactly(value: list[object], said: str) -> None:
    def body(value: list[object]) -> bytes:
        return json.dumps({"pad,": PAD, "[": value}).encode()

    BOUND.check(body(value[1:]))
    with pytest.raises(RequestError, match=said):
        BOUND.check(body(value))


def test_a_small_body_is_not_counted() -> None:
    BOUND.check(json.dumps([1] * 1000).encode())


def test_recent_is_limited_for_each_user(world: World) -> None:
    def v2_status(send: Send, num_recent: int, users: int) -> int:
        tensors = [
            tensor("user_id", ["ann", "bob"][:users], [users]),
            tensor("candidates", ["i1"] * users, [users, 1]),
            tensor("recent", ["i1"] * num_recent * users, [users, num_recent]),
        ]
        return send("POST", INFER, json.dumps({"inputs": tensors}).encode(), {}).status_code

    with serving(world, Toy(), max_recent=5) as send:
        for num_recent, expected in ((5, 200), (6, 400)):
            body = json.dumps({**GOOD, "recent": ["i1"] * num_recent}).encode()
            response = send("POST", SCORE, body, {})
            assert response.status_code == expected
            assert v2_status(send, num_recent, 1) == v2_status(send, num_recent, 2) == expected
    assert response.json() == {"error": "recent: got 6, expected at most 5 item ids"}
