"""The load generator, in a process of its own: `python -m loadtest.peers.driver` with a plan as JSON on stdin.

A closed loop over connections that stay open. Bodies are made before the measurement. Answers are parsed by httptools
and dropped, after the first ones are checked: the generator spends some microseconds on a request.
"""

import asyncio
import gc
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import cast

import httptools
import numpy as np
import uvloop
from numpy.typing import NDArray

from loadtest.peers.cells import Cell, measured
from loadtest.peers.queries import Query, read_queries
from loadtest.peers.servers import Route
from loadtest.peers.wire_formats import http_request, scores_of

HOST = "127.0.0.1"
ANSWER_LIMIT_S = 20
LEAST_ANSWERS = 10
DEGRADED = b'"degraded":true'


class Connection(asyncio.Protocol):
    """One connection with at most one request in flight."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[bytes] = self._loop.create_future()
        self._transport: asyncio.Transport | None = None
        self.headers: dict[str, str] = {}
        self._body = bytearray()

    async def send(self, request: bytes) -> bytes:
        """Send a request and wait for the body of the answer.

        Raises:
            ConnectionError: the server closed the connection.
            ValueError: the status is not 200.
        """
        self._answer = self._loop.create_future()
        self._parser = httptools.HttpResponseParser(self)
        self.headers, self._body = {}, bytearray()
        if self._transport is None or self._transport.is_closing():
            raise ConnectionError("the server closed the connection")
        self._transport.write(request)
        return await self._answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport. Called by the event loop."""
        # uvloop's transports are not subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Feed the parser. Called by the event loop."""
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the request in flight. Called by the event loop."""
        if not self._answer.done():
            self._answer.set_exception(ConnectionError(f"the server closed the connection: {exc}"))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser."""
        self.headers[name.decode().lower()] = value.decode()

    def on_body(self, body: bytes) -> None:
        """Called by the parser."""
        self._body += body

    def on_message_complete(self) -> None:
        """Called by the parser."""
        status = self._parser.get_status_code()
        if status == 200:
            self._answer.set_result(bytes(self._body))
        else:
            self._answer.set_exception(ValueError(f"status {status}: {bytes(self._body[:300])!r}"))

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()


@asynccontextmanager
async def connected(port: int, count: int) -> AsyncIterator[list[Connection]]:
    """Open connections; they are closed at the end."""
    loop = asyncio.get_running_loop()
    connections: list[Connection] = []
    try:
        for _ in range(count):
            _, connection = await loop.create_connection(Connection, HOST, port)
            connections.append(connection)
        yield connections
    finally:
        for connection in connections:
            connection.close()


async def check(port: int, route: Route, queries: list[Query]) -> None:
    """Compare answers with the scores of the in-process ranker.

    Raises:
        ValueError: an answer is wrong.
    """
    async with connected(port, 1) as (connection,):
        for query in (query for query in queries if query.scores):
            request = http_request(route, f"{HOST}:{port}", query)
            body = await asyncio.wait_for(connection.send(request), ANSWER_LIMIT_S)
            got = scores_of(route, connection.headers, body)
            if got.shape != (len(query.scores),):
                raise ValueError(f"got {got.shape} scores, expected {len(query.scores)}")
            if not (worst := np.abs(got - query.scores).max()) <= route.tolerance:
                raise ValueError(f"scores of user {query.user_id} differ by {worst:.2g}")


async def load(
    port: int,
    concurrency: int,
    requests: list[bytes],
    warm_up_s: float,
    seconds: float,
    pause_s: float = 0.0,
) -> tuple[NDArray[np.float64], float, int]:
    """Send requests in a closed loop.

    Args:
        port: port of the server.
        concurrency: number of connections.
        requests: complete HTTP requests, sent in turn.
        warm_up_s: time before the measurement.
        seconds: duration of the measurement; longer if there are fewer than `LEAST_ANSWERS` answers.
        pause_s: time between an answer and the next request of its connection.

    Returns:
        Latencies in seconds after the warm-up, the measured seconds, and the number of degraded answers.
    """
    start = time.perf_counter() + warm_up_s
    end = last = start + seconds
    latency_s: list[float] = []
    degraded = 0

    async def keep_sending(connection: Connection, number: int) -> None:
        nonlocal last, degraded
        now = time.perf_counter()
        while now < end or len(latency_s) < LEAST_ANSWERS:
            if pause_s:
                await asyncio.sleep(pause_s)
            sent = time.perf_counter() if pause_s else now
            body = await connection.send(requests[number % len(requests)])
            now = time.perf_counter()
            number += 1
            degraded += DEGRADED in body
            if start <= now and (now <= end or len(latency_s) < LEAST_ANSWERS):
                latency_s.append(now - sent)
                last = max(last, now)

    async with (
        connected(port, concurrency) as connections,
        asyncio.timeout(warm_up_s + seconds + ANSWER_LIMIT_S),
        asyncio.TaskGroup() as group,
    ):
        for number, connection in enumerate(connections):
            first = number * len(requests) // concurrency
            group.create_task(keep_sending(connection, first))
    return np.array(latency_s), last - start, degraded


async def drive(
    port: int, route: Route, cells: list[Cell], warm_up_s: float, seconds: float
) -> str:
    """Check the answers, then measure every cell; return the figures as JSON."""
    queries = read_queries()
    figures = {}
    for slate in sorted({cell.slate for cell in cells}):
        await check(port, route, queries[slate])
    host = f"{HOST}:{port}"
    gc.collect()
    gc.disable()
    for cell in cells:
        requests = [http_request(route, host, query) for query in queries[cell.slate]]
        pause_s = cell.pause_ms / 1000
        times = await load(port, cell.concurrency, requests, warm_up_s, seconds, pause_s)
        figures[str(cell)] = asdict(measured(*times))
    return json.dumps(figures)


def main() -> None:
    """Read the plan and print the figures. A failure is one line on stderr."""
    plan = json.loads(sys.stdin.read())
    cells = [Cell(**cell) for cell in plan["cells"]]
    driving = drive(plan["port"], Route(**plan["route"]), cells, plan["warm_up_s"], plan["seconds"])
    try:
        print(uvloop.run(driving))
    except* (OSError, ValueError, TimeoutError) as errors:
        first = errors.exceptions[0]
        while isinstance(first, ExceptionGroup):
            first = first.exceptions[0]
        sys.exit(f"{type(first).__name__}: {first}")


if __name__ == "__main__":
    main()
