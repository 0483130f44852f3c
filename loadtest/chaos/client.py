"""`python -m loadtest.chaos.client PORT QUERIES RATE`: sends queries at a fixed rate until its standard input closes.

It is a process of its own, so that faults do not delay it. It writes one `Outcome` per line to standard output.
"""

import asyncio
import sys
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path

from loadtest.chaos.expected import MODEL, Query, load_queries
from loadtest.chaos.http_client import Connection, Reply, TornAnswerError
from loadtest.chaos.outcome import Outcome, judge
from loadtest.chaos.protocols import v1_request, v2_request

HANG_LIMIT_S = 10.0
"""A request without an answer after this time counts as hung; the service's longest wait is far shorter."""


class Client:
    """Sends queries over kept-alive connections."""

    def __init__(self, port: int, queries: Sequence[Query]) -> None:
        self._port = port
        self._queries = queries
        # Each query is sent by both protocols in turn.
        self._requests = [(v1_request(q.body), v2_request(q.body, MODEL)) for q in queries]
        self._idle: list[Connection] = []

    async def send(self, number: int) -> Outcome:
        """Send one query; return its outcome."""
        position = number % len(self._queries)
        query, protocols = self._queries[position], self._requests[position]
        request = protocols[number // len(self._queries) % len(protocols)]
        sent_s = time.monotonic()
        retried, failure, judged, status = False, "", {}, 0
        try:
            async with asyncio.timeout(HANG_LIMIT_S):
                retried, reply = await self._exchange(request)
            status, judged = reply.status, judge(query, reply)
        except TimeoutError:
            failure = "hung"
        except ConnectionRefusedError:
            failure = "refused"
        except OSError as error:
            failure = f"closed: {error}"
        return Outcome(sent_s, time.monotonic(), status, failure, retried, query.is_known, **judged)

    async def _exchange(self, request: bytes) -> tuple[bool, Reply]:
        """Whether the request was sent twice, and the answer."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_open:
                connection.close()
                continue
            try:
                return False, await self._over(connection, request)
            except TornAnswerError:
                raise
            except OSError:
                # The server closed it between two requests: every HTTP client sends again, on a new connection.
                return True, await self._over(await Connection.open(self._port), request)
        return False, await self._over(await Connection.open(self._port), request)

    async def _over(self, connection: Connection, request: bytes) -> Reply:
        try:
            reply = await connection.send_and_read(request)
        except BaseException:
            connection.abort()
            raise
        if connection.is_open:
            self._idle.append(connection)
        else:
            connection.close()
        return reply


async def run(port: int, queries: Sequence[Query], rate_per_s: float) -> None:
    """Send queries on schedule until standard input closes, then wait for the answers."""
    client = Client(port, queries)
    stop = asyncio.create_task(asyncio.to_thread(sys.stdin.buffer.read))
    open_requests: set[asyncio.Task[None]] = set()
    start_s = time.monotonic()
    for number in count():
        wait_s = start_s + number / rate_per_s - time.monotonic()
        await asyncio.sleep(max(wait_s, 0))
        if stop.done():
            break
        task = asyncio.create_task(_report(client, number))
        open_requests.add(task)
        task.add_done_callback(open_requests.discard)
    await asyncio.gather(*open_requests)


async def _report(client: Client, number: int) -> None:
    sys.stdout.buffer.write((await client.send(number)).to_line())
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    asyncio.run(run(int(sys.argv[1]), load_queries(Path(sys.argv[2])), float(sys.argv[3])))
