"""Connections that are silent, and connections without calls, are closed; those with calls are not."""

import asyncio
import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from loadtest.chaos.http2 import (
    GOAWAY,
    PREFACE,
    SETTINGS,
    Peer,
    data,
    frame,
    head,
    message,
)
from service.v2 import grpc_transport
from service.v2.grpc_transport import SERVICE, make_server
from tests.service.certificates import make_certificate

pytestmark = pytest.mark.anyio
ECHO = f"/{SERVICE}/Echo".encode()
LIMIT_S = 30.0
TLS_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 64


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc_transport, "HANDSHAKE_S", 0.5)
    monkeypatch.setattr(grpc_transport, "IDLE_S", 0.5)


@asynccontextmanager
async def serving(credentials: Any = None) -> AsyncIterator[int]:
    """Port of a server with one call that waits for a second and gives its message back."""

    async def echo(_: object, context: Any) -> bytes:
        raw = await context.read()
        await asyncio.sleep(1)
        return bytes(raw)

    async def refuse(context: Any) -> None:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "no")

    handler: Any = grpc.stream_unary_rpc_method_handler(echo)
    server = make_server(1000, {"Echo": handler}, refuse)
    if credentials is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)


async def closed(peer: Peer) -> list[int]:
    """Kinds of the frames that came before the connection was closed."""
    async with asyncio.timeout(LIMIT_S):
        kinds = await peer.until_closed()
    peer.abort()
    return kinds


@pytest.mark.parametrize(
    "sent", [b"", PREFACE[:10], PREFACE, PREFACE + frame(SETTINGS, 0, 0)[:5]], ids=range(4)
)
async def test_a_connection_without_its_first_frame_is_closed(sent: bytes):
    async with serving() as port:
        peer = await Peer.open(port, greets=False)
        await peer.send(sent)
        await closed(peer)


async def test_a_connection_that_acknowledges_nothing_is_closed():
    async with serving() as port:
        assert GOAWAY in await closed(await Peer.open(port))


async def test_a_connection_without_calls_is_closed():
    async with serving() as port:
        peer = await Peer.open(port)
        async with asyncio.timeout(LIMIT_S):
            while await peer.read() is not None:  # acknowledges settings and pings
                pass
        peer.abort()


async def test_a_connection_with_a_call_is_not_closed():
    async with serving() as port:
        peer = await Peer.open(port)
        for stream in (1, 3):
            await peer.send(head(ECHO, stream=stream) + data(message(b"hello"), stream))
            assert (await peer.answer(stream)).code == 0
        peer.abort()


async def test_a_client_connects_again_after_its_connection_was_closed():
    async with serving() as port, grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        ask: Any = channel.unary_unary(ECHO.decode())
        for _ in range(2):
            assert await ask(b"hello") == b"hello"
            while channel.get_state() is grpc.ChannelConnectivity.READY:
                await asyncio.sleep(0.05)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes the certificate")
@pytest.mark.parametrize("sent", [b"", TLS_HELLO[:20], TLS_HELLO], ids=range(3))
async def test_an_unfinished_tls_handshake_is_closed(sent: bytes, tmp_path: Path):
    certificate, key = make_certificate(tmp_path)
    pair = key.read_bytes(), certificate.read_bytes()
    async with serving(grpc.ssl_server_credentials([pair])) as port:
        peer = await Peer.open(port, greets=False)
        await peer.send(sent)
        await closed(peer)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes the certificate")
async def test_a_tls_connection_without_its_first_frame_is_closed(tmp_path: Path):
    certificate, key = make_certificate(tmp_path)
    pair = key.read_bytes(), certificate.read_bytes()
    context = ssl.create_default_context(cafile=str(certificate))
    context.check_hostname = False
    context.set_alpn_protocols(["h2"])
    async with serving(grpc.ssl_server_credentials([pair])) as port:
        await closed(await Peer.open(port, greets=False, tls=context))
