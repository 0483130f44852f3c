"""A cache behind TLS and a password: read with a verified certificate, and rejected without.

The Valkey that comes as a wheel is built without TLS, so a TLS socket stands before it and passes the bytes on.
"""

import asyncio
import shutil
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from models.contract.errors import CacheUnavailableError
from service.store.redis import RedisStore
from tests.service.certificates import make_certificate
from tests.service.world import World

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="makes the certificate"),
]


@asynccontextmanager
async def tls_before(path: str, certificate: Path, key: Path) -> AsyncIterator[int]:
    """A port of this machine that speaks TLS, before a unix socket."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while some := await reader.read(1 << 16):
            writer.write(some)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        cache_reader, cache_writer = await asyncio.open_unix_connection(path)
        with suppress(OSError, asyncio.CancelledError):
            await asyncio.gather(copy(reader, cache_writer), copy(cache_reader, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.fixture
def guarded(own_cache: Path, tmp_path: Path) -> Iterator[World]:
    """A world whose cache asks for a password."""
    world = World(f"unix://{own_cache}/valkey.sock", tmp_path / "artifacts")
    world.put("greeting", b"hello")
    with world.redis as client:
        client.config_set("requirepass", "right")
        yield world
        client.config_set("requirepass", "")


async def read(url: str) -> bytes | None:
    store = RedisStore(url, 5.0)
    try:
        return await store.read("greeting")
    finally:
        await store.close()


async def test_a_cache_behind_tls_and_a_password(guarded: World, tmp_path: Path):
    certificate, key = make_certificate(tmp_path)
    async with tls_before(guarded.url.removeprefix("unix://"), certificate, key) as port:
        trusted = f"ssl_ca_certs={certificate}"
        url = f"rediss://:right@127.0.0.1:{port}/0?{trusted}"
        assert await read(url) == b"hello"
        for bad, why in [
            (url.replace("?" + trusted, ""), "certificate verify failed"),
            (url.replace("rediss:", "redis:").split("?")[0], "cache "),
            (url.replace("right", "wrong"), "invalid username-password pair"),
            (url.replace(":right@", ""), "already authenticated"),
        ]:
            with pytest.raises(CacheUnavailableError, match=why) as error:
                await read(bad)
            assert "right@" not in str(error.value)
            assert "wrong@" not in str(error.value)
