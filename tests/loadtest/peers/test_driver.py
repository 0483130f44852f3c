import asyncio
import json
from contextlib import suppress

import pytest

from loadtest.peers.driver import LEAST_ANSWERS, check, load
from loadtest.peers.queries import Query
from loadtest.peers.servers import Route
from loadtest.peers.wire_formats import http_request

ROUTES = {wire: Route(wire, "/score", wire) for wire in ("json", "v2", "v2-binary")}


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection to a server whose score is half of the user's id, and that has no user "x"."""
    with suppress(asyncio.IncompleteReadError):
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r")[0])
            query = json.loads(await reader.readexactly(length))
            is_known = query["user_id"] != "x"
            body = json.dumps({"scores": [int(query["user_id"]) / 2] if is_known else []}).encode()
            status = f"HTTP/1.1 {200 if is_known else 404} Word\r\nContent-Length: {len(body)}"
            writer.write(f"{status}\r\n\r\n".encode() + body)
    writer.close()


async def timed(query: Query) -> int:
    """Check a query, then ask it for a while; how many answers were timed."""
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        await check(port, ROUTES["json"], [query])
        request = http_request(ROUTES["json"], "h", query)
        latency_s, _, _ = await load(port, 2, [request], 0.05, 0.1)
        return len(latency_s)
    finally:
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*others)
        await asyncio.sleep(0)


def test_the_driver_times_answers_over_connections_that_stay_open() -> None:
    assert asyncio.run(timed(Query("1", ["i"], [0.5]))) > 2


async def latencies(pause_s: float) -> list[float]:
    """Latencies of one connection."""
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        request = http_request(ROUTES["json"], "h", Query("1", ["i"], []))
        latency_s, _, _ = await load(port, 1, [request], 0.0, 0.1, pause_s)
        return list(latency_s)
    finally:
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*others)
        await asyncio.sleep(0)


def test_a_pause_spaces_requests_out_and_is_not_part_of_the_latency() -> None:
    paused = asyncio.run(latencies(0.1))
    assert len(paused) == LEAST_ANSWERS
    assert min(paused) < 0.1


@pytest.mark.parametrize(
    ("query", "why"),
    [
        (Query("1", ["i"], [0.4]), "scores of user 1 differ by 0.1"),
        (Query("1", ["i", "j"], [0.5, 0.5]), r"got \(1,\) scores, expected 2"),
        (Query("x", ["i"], [0.5]), "status 404"),
    ],
)
def test_a_wrong_answer_is_not_timed(query: Query, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        asyncio.run(timed(query))
