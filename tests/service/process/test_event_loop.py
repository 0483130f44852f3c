"""Connections to a TLS port that send no handshake are closed, and so are those that do not answer the end."""

import asyncio
import socket
import ssl
from contextlib import suppress
from pathlib import Path

import pytest

from service.process.event_loop import BoundedLoop
from tests.service.certificates import make_certificate


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01", b"\x16\x03\x01\x02\x00" + b"\x01"])
def test_a_silent_connection_to_a_tls_port_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr("service.process.event_loop.HANDSHAKE_S", 0.2)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*make_certificate(tmp_path))

    async def closes() -> bool:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, ssl=context)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(sent)
            async with asyncio.timeout(10):
                with suppress(ConnectionError):
                    await reader.read()
            writer.close()
        return reader.at_eof() or reader.exception() is not None

    with asyncio.Runner(loop_factory=BoundedLoop) as runner:
        assert runner.run(closes())


class Kept(asyncio.Protocol):
    """Closes its connection at once, and notes the end."""

    def __init__(self) -> None:
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set_result(None)


def test_a_tls_client_that_does_not_read_does_not_keep_its_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.process.event_loop.FAREWELL_S", 0.2)
    certificate, key = make_certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    trusted = ssl.create_default_context(cafile=str(certificate))

    async def ends() -> bool:
        loop = asyncio.get_running_loop()
        kept = Kept()
        server = await loop.create_server(lambda: kept, "127.0.0.1", 0, ssl=context)
        address = server.sockets[0].getsockname()
        async with server, asyncio.timeout(10):
            client = await asyncio.to_thread(idle, trusted, address)
            await kept.ended
            client.close()
        return True

    def idle(trusted: ssl.SSLContext, address: tuple[str, int]) -> ssl.SSLSocket:
        return trusted.wrap_socket(socket.create_connection(address), server_hostname="localhost")

    with asyncio.Runner(loop_factory=BoundedLoop) as runner:
        assert runner.run(ends())


def test_plain_ports_have_no_handshake() -> None:
    async def listens() -> bool:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        server.close()
        return isinstance(loop, BoundedLoop)

    with asyncio.Runner(loop_factory=BoundedLoop) as runner:
        assert runner.run(listens())
