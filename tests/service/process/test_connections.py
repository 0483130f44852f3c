"""Slow or large heads, and large trailers, close the connection; other requests are served."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from service.process.connections import DISCARDED_BYTES, MAX_HEAD_BYTES, BoundedProtocol

pytestmark = pytest.mark.anyio
HEAD = b"GET / HTTP/1.1\r\nHost: absorb\r\n"


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("served")(scope, receive, send)


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off")
    config.load()
    state = ServerState()
    server = await asyncio.get_running_loop().create_server(
        lambda: BoundedProtocol(config=config, server_state=state, app_state={}), "127.0.0.1", 0
    )
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        yield reader, writer
        writer.close()


async def served(reader: asyncio.StreamReader) -> bool:
    async with asyncio.timeout(10):
        return (await reader.readuntil(b"served")).startswith(b"HTTP/1.1 200")


async def test_consecutive_requests_and_requests_in_parts_are_served():
    async with connected() as (reader, writer):
        for _ in range(2):
            writer.write(HEAD + b"\r\n")
            assert await served(reader)
        for piece in (HEAD[:5], HEAD[5:], b"X: y\r\n", b"\r\n"):
            writer.write(piece)
            await asyncio.sleep(0.01)
        assert await served(reader)


@pytest.mark.parametrize("sent", [b"", HEAD[:7], HEAD, HEAD + b"\r\n" + HEAD])
async def test_an_incomplete_head_closes_the_connection(
    monkeypatch: pytest.MonkeyPatch, sent: bytes
):
    monkeypatch.setattr("service.process.connections.HEAD_S", 0.1)
    async with connected() as (reader, writer):
        writer.write(sent)
        async with asyncio.timeout(10):
            answer = await reader.read()
    assert (b"served" in answer) == (b"\r\n\r\n" in sent)


async def test_a_head_above_the_limit_closes_the_connection():
    async with connected() as (reader, writer):
        writer.write(HEAD)
        writer.write((b"X: " + b"y" * 1000 + b"\r\n") * (MAX_HEAD_BYTES // 1000 + 100))
        async with asyncio.timeout(10):
            with suppress(ConnectionError):  # reset, where the rest was still on its way
                assert await reader.read() == b""


CHUNKED = b"POST / HTTP/1.1\r\nHost: absorb\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("start", [b"0\r\na: ", b"5;a="])
async def test_endless_chunk_extensions_or_trailers_close_the_connection(start: bytes):
    async with connected() as (reader, writer):
        writer.write(CHUNKED + start)
        for _ in range(MAX_HEAD_BYTES // 1000 + 100):
            writer.write(b"y" * 1000)
        async with asyncio.timeout(10):
            with suppress(ConnectionError):  # reset, where the rest was still on its way
                assert b"served" in await reader.read()


async def test_a_body_in_many_chunks_may_be_longer_than_a_head():
    chunk = b"3e8\r\n" + b"y" * 1000 + b"\r\n"
    async with connected() as (reader, writer):
        for _ in range(2):
            writer.write(CHUNKED)
            for _ in range(3 * MAX_HEAD_BYTES // 1000):
                writer.write(chunk)
                await writer.drain()
            writer.write(b"0\r\n\r\n")
            assert await served(reader)


REFUSING = b"POST /refuse HTTP/1.1\r\nHost: absorb\r\nContent-Length: 99999999999\r\n\r\n"


async def is_closed(reader: asyncio.StreamReader) -> bool:
    with suppress(ConnectionError):
        while await reader.read(1 << 16):
            pass
    return True


@pytest.mark.parametrize("start", [REFUSING, CHUNKED + b"fffffffff\r\n"])
async def test_a_body_that_goes_on_after_its_answer_is_read_only_so_far(
    monkeypatch: pytest.MonkeyPatch, start: bytes
):
    monkeypatch.setattr("service.process.connections.DISCARD_S", 60.0)
    async with connected() as (reader, writer):
        writer.write(start)
        assert await served(reader)  # the application does not read bodies
        num_bytes, chunk = 0, b"y" * (1 << 16)
        with suppress(ConnectionError):
            while num_bytes < 16 * DISCARDED_BYTES:
                writer.write(chunk)
                await writer.drain()
                num_bytes += len(chunk)
        assert await is_closed(reader)
    assert DISCARDED_BYTES <= num_bytes < 16 * DISCARDED_BYTES


async def test_a_body_that_trickles_after_its_answer_is_read_only_so_long(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("service.process.connections.DISCARD_S", 0.2)
    async with connected() as (reader, writer):
        writer.write(REFUSING)
        assert await served(reader)
        closed = asyncio.create_task(is_closed(reader))
        with suppress(ConnectionError):
            async with asyncio.timeout(20):
                while not closed.done():
                    writer.write(b"y")
                    await asyncio.sleep(0.02)
        assert await closed


async def test_the_rest_of_a_refused_body_does_not_end_the_connection(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("service.process.connections.DISCARD_S", 0.2)
    length = DISCARDED_BYTES // 2
    async with connected() as (reader, writer):
        for _ in range(3):
            writer.write(REFUSING.replace(b"99999999999", str(length).encode()))
            assert await served(reader)
            writer.write(b"y" * length)
            await writer.drain()
        # Slowly, but not refused: a limit that outlives its request would close the connection now.
        writer.write(HEAD[:5])
        await asyncio.sleep(0.4)
        writer.write(HEAD[5:] + b"\r\n")
        assert await served(reader)
