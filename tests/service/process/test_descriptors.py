"""A service without free file descriptors says so; and a closed terminal drains it."""

import asyncio
import resource
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from tests.service.running import service_process, until_ready, wait_for
from tests.service.toy import Toy
from tests.service.world import World

BODY = {"user_id": "ann", "candidates": ["i1"]}
ROOM = 8
"""Descriptors that the service may still open."""

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def started(
    world: World, log: Path
) -> AsyncIterator[tuple["subprocess.Popen[bytes]", httpx.AsyncClient]]:
    """A ready service and a client that is connected. The service must end by itself, after the signal of the test."""
    world.publish(Toy())
    places = {"cache_url": world.url, "artifact_dir": str(world.artifacts)}
    with service_process(log, **places, cache_timeout_ms="2000", drain_delay_s="1.5") as process:
        port = await wait_for(process, log, r"running on http://127\.0\.0\.1:(\d+)")
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            await until_ready(client)
            yield process, client
        assert await asyncio.to_thread(process.wait, 30) == 0


async def test_a_service_without_descriptors_says_so_and_goes_on(world: World, tmp_path: Path):
    log = tmp_path / "log"
    async with started(world, log) as (process, client):
        port = client.base_url.port
        num_open = len(list(Path(f"/proc/{process.pid}/fd").iterdir()))
        _, hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (num_open + ROOM, hard))
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(4 * ROOM)]
        async with asyncio.timeout(20):
            while "out of file descriptors" not in log.read_text():
                await asyncio.sleep(0.05)
        assert (await client.post("/v1/score", json=BODY)).status_code == 200
        for _, writer in held:
            writer.close()
        async with asyncio.timeout(20):
            while "file descriptors are free again" not in log.read_text():
                await asyncio.sleep(0.05)
        process.send_signal(signal.SIGTERM)
    assert log.read_text().count("out of file descriptors") == 1


@pytest.fixture
def hangup() -> Iterator[None]:
    """Who runs the tests under nohup ignores the signal, and processes inherit that: here they do not."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hangup")
async def test_a_closed_terminal_drains_the_service(world: World, tmp_path: Path):
    log = tmp_path / "log"
    async with started(world, log) as (process, client):
        process.send_signal(signal.SIGHUP)
        while (ready := await client.get("/health/ready")).status_code == 200:
            await asyncio.sleep(0.01)
        scored = await client.post("/v1/score", json=BODY)
    assert "draining" in ready.json()["error"]
    assert scored.status_code == 200
    assert "Shutting down" in log.read_text()
