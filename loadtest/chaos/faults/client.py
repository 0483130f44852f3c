"""Faults of clients: closed connections, slow bodies, bad requests, and too many requests at once."""

import asyncio
import gzip
import zlib
from collections.abc import Awaitable, Sequence
from contextlib import suppress

import orjson

from loadtest.chaos.environment import Environment
from loadtest.chaos.http_client import Connection, Reply, fetch, post
from loadtest.chaos.process import READY
from loadtest.chaos.scenario import Scenario

VANISHING = 60
DRIBBLING = 100
DRIBBLE_EVERY_S = 0.2
ALL_AT_ONCE = 300
ANSWER_LIMIT_S = 15.0
FREED_LIMIT_S = 15.0
FREED_SLACK = 20
"""Additional descriptors that may stay open: connections of the steady load and to the cache."""
BOMB_BYTES = 64 << 20
BODY_LIMIT_BYTES = 1 << 16
SCORE = "/v1/score"


async def vanish(environment: Environment) -> None:
    """Clients close connections after a request, within its head, or within its body."""
    body = _body(environment)
    whole = post(SCORE, body)
    parts = (whole, whole[:30], whole[: len(whole) - len(body) // 2], whole * 20)
    before = environment.service.open_files()
    async with environment.fault("clients vanish"):
        for number in range(VANISHING):
            connection = await Connection.open(environment.service.port)
            await connection.send(parts[number % len(parts)])
            if number % 3 == 0:
                await asyncio.sleep(0.005)  # some close while their answer is being sent
            connection.abort()
    await check_freed(environment, before)


async def dribble(environment: Environment) -> None:
    """Slow-loris: a hundred connections send one byte at a time, half of them of a head, half of a body."""
    before = environment.service.open_files()
    body = _body(environment)
    whole = post(SCORE, body)
    starts = (len(whole) - len(body), 0)
    async with environment.fault("slow-loris"):
        opened = [await Connection.open(environment.service.port) for _ in range(DRIBBLING)]
        for number, connection in enumerate(opened):
            await connection.send(whole[: starts[number % 2]])
        answers = [asyncio.create_task(connection.read()) for connection in opened]
        for step in range(round(environment.fault_s / DRIBBLE_EVERY_S)):
            await asyncio.sleep(DRIBBLE_EVERY_S)
            for number, connection in enumerate(opened):
                at = starts[number % 2] + step
                if not answers[number].done():
                    with suppress(OSError):
                        await connection.send(whole[at : at + 1])
        for answer in answers[::2]:
            await _check_refused(environment, answer)
        for connection in opened:
            connection.abort()
        await asyncio.gather(*answers, return_exceptions=True)
    await check_freed(environment, before)


async def _check_refused(environment: Environment, answer: Awaitable[Reply]) -> None:
    """Check that an incomplete body gets 408 or a closed connection."""
    try:
        async with asyncio.timeout(ANSWER_LIMIT_S):
            came = str((await answer).status)
    except OSError as error:
        came = "nothing" if isinstance(error, TimeoutError) else "closed"
    environment.abuses[f"a slow body: {came}"] += 1
    if came not in {"408", "closed"}:
        environment.problems.append(f"a slow body: got {came}, expected 408")


async def bad_bodies(environment: Environment) -> None:
    """Requests that are too long, not JSON, not HTTP, or bombs: each must get a 4xx or a closed connection."""
    async with environment.fault("bad bodies"):
        for name, request in _bad_requests(environment):
            try:
                status = (await fetch(environment.service.port, request, ANSWER_LIMIT_S)).status
                came, is_right = str(status), 400 <= status < 500
            except TimeoutError:
                came, is_right = "hung", False
            except (OSError, ValueError, IndexError):
                came, is_right = "closed", True
            environment.abuses[f"{name}: {came}"] += 1
            if not is_right:
                environment.problems.append(f"{name}: got {came}, expected 4xx")


def _bad_requests(environment: Environment) -> Sequence[tuple[str, bytes]]:
    good = orjson.loads(_body(environment))
    long = orjson.dumps({**good, "candidates": ["x" * 100] * (2 * BODY_LIMIT_BYTES // 100)})
    chunked = (
        f"POST {SCORE} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    )
    chunks = (b"1000\r\n" + b" " * 0x1000 + b"\r\n") * (2 * BODY_LIMIT_BYTES // 0x1000)
    bomb = b" " * BOMB_BYTES
    gzipped = gzip.compress(bomb, 1)
    deflated = zlib.compress(bomb, 1)
    infer = "/v2/models/chaos/infer"
    return (
        ("oversize", post(SCORE, long)),
        ("oversize, chunked", chunked + chunks + b"0\r\n\r\n"),
        (
            "oversize, by its header only",
            post(SCORE, b"{}").replace(b"Length: 2", b"Length: 99999999999"),
        ),
        ("no JSON", post(SCORE, b'{"user_id": ')),
        ("not UTF-8", post(SCORE, b'{"user_id": "\xff\xfe", "candidates": ["1"]}')),
        ("nested", post(SCORE, b"[" * 30000)),
        ("a list", post(SCORE, b"[1, 2, 3]")),
        ("nothing", post(SCORE, b"")),
        ("a number as candidates", post(SCORE, orjson.dumps({**good, "candidates": 5}))),
        ("no candidates", post(SCORE, orjson.dumps({**good, "candidates": []}))),
        ("an unknown field", post(SCORE, orjson.dumps({**good, "candidate": []}))),
        ("a user with a NUL", post(SCORE, orjson.dumps({**good, "user_id": "a\0b"}))),
        ("no HTTP", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 64 + b"\r\n\r\n"),
        ("a head that is too long", post(SCORE, b"{}", "X-Long: " + "y" * 200_000)),
        ("two lengths", post(SCORE, b"{}", "Content-Length: 3")),
        ("a negative length", post(SCORE, b"{}").replace(b"Length: 2", b"Length: -2")),
        ("a gzip bomb", post(SCORE, gzipped, "Content-Encoding: gzip")),
        ("a deflate bomb", post(SCORE, deflated, "Content-Encoding: deflate")),
        ("a gzip bomb on /v2", post(infer, gzipped, "Content-Encoding: gzip")),
        ("a deflate bomb on /v2", post(infer, deflated, "Content-Encoding: deflate")),
        ("a torn gzip", post(SCORE, gzipped[:100], "Content-Encoding: gzip")),
        ("no JSON on /v2", post(infer, b"{")),
        ("a wrong binary length", post(infer, b"{}", "Inference-Header-Content-Length: 999999")),
    )


async def overload(environment: Environment) -> None:
    """Three hundred clients at once: each must get an answer or a rejection with its status."""
    request = post(SCORE, _body(environment))
    async with environment.fault("overload"):
        waves = max(1, round(environment.fault_s))
        for _ in range(waves):
            burst = [_outcome(environment.service.port, request) for _ in range(ALL_AT_ONCE)]
            *answers, probed = await asyncio.gather(
                *burst, _outcome(environment.service.port, READY)
            )
            if probed != "200":
                environment.problems.append(
                    f"overload: readiness probe: got {probed}, expected 200"
                )
            for came in answers:
                environment.abuses[f"overload: {came}"] += 1
                if came not in {"200", "429", "503", "504"}:
                    environment.problems.append(
                        f"overload: got {came}, expected 200, 429, 503 or 504"
                    )


async def _outcome(port: int, request: bytes) -> str:
    try:
        return str((await fetch(port, request, ANSWER_LIMIT_S)).status)
    except TimeoutError:
        return "hung"
    except OSError as error:
        return f"closed: {error}"


def _body(environment: Environment) -> bytes:
    return orjson.dumps(environment.fixtures.queries[0].body)


async def check_freed(environment: Environment, before: int) -> None:
    """Check that the service closes connections whose clients are gone."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + FREED_LIMIT_S
    while (now := environment.service.open_files()) > before + FREED_SLACK:
        if loop.time() > deadline:
            environment.problems.append(
                f"descriptors: got {now - before} more than before, expected at most {FREED_SLACK}"
            )
            return
        await asyncio.sleep(0.1)


LIMITS = {"ABSORB_MAX_BODY_BYTES": str(BODY_LIMIT_BYTES)}
CLIENT_FAULTS = (
    Scenario(
        "clients-vanish", "clients close or reset connections before and within answers", vanish
    ),
    Scenario(
        "slow-loris",
        "heads and bodies arrive byte by byte",
        dribble,
        settings={"ABSORB_BODY_TIMEOUT_S": "0.5"},
    ),
    Scenario("bad-bodies", "oversize, malformed, bombs", bad_bodies, settings=LIMITS),
    Scenario(
        "overload",
        "three hundred clients at once, sixteen are admitted",
        overload,
        # Three hundred connections block the event loop for longer than the cache timeout.
        frozenset({"unavailable"}),
        settings={"ABSORB_MAX_IN_FLIGHT": "16", "ABSORB_MAX_QUEUE": "0"},
    ),
)
