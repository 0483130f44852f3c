"""Connections to a TLS port that send no handshake are closed."""

import asyncio
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


def test_plain_ports_have_no_handshake() -> None:
    async def listens() -> bool:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        server.close()
        return isinstance(loop, BoundedLoop)

    with asyncio.Runner(loop_factory=BoundedLoop) as runner:
        assert runner.run(listens())
