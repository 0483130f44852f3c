"""Several processes on one port: equal scores, replaced when killed, ended together."""

import asyncio
import os
import re
import signal
import subprocess
from pathlib import Path

import httpx
import psutil
import pytest

from service.process.fleet import bind, check_free
from tests.service.running import service_process, wait_for
from tests.service.toy import Toy
from tests.service.world import World

pytestmark = pytest.mark.anyio
TOY = Toy()
BODY = {"user_id": "ann", "candidates": ["i1", "i5"]}


def pids(process: "subprocess.Popen[bytes]") -> dict[int, int]:
    """Number in the fleet -> process id."""
    found = {}
    for child in psutil.Process(process.pid).children():
        words = child.cmdline()
        if "--number" in words:
            found[int(words[words.index("--number") + 1])] = child.pid
    return found


async def score(url: str) -> httpx.Response:
    async with httpx.AsyncClient(timeout=30) as client:  # a connection of its own
        return await client.post(f"{url}/v1/score", json=BODY)


async def until_answered(url: str) -> None:
    while True:
        try:
            async with httpx.AsyncClient(timeout=30) as client:
                if (await client.get(f"{url}/health/ready")).status_code == 200:
                    return
        except httpx.ConnectError:
            pass
        await asyncio.sleep(0.05)


@pytest.fixture
def world(own_cache: Path, tmp_path: Path) -> World:
    world = World(f"unix://{own_cache}/valkey.sock", tmp_path / "artifacts")
    world.publish(TOY)
    return world


async def test_a_fleet_serves_replaces_a_killed_process_and_ends(world: World, tmp_path: Path):
    log = tmp_path / "log"
    settings = {"cache_url": world.url, "artifact_dir": str(world.artifacts), "processes": "2"}
    with service_process(log, drain_delay_s="0", **settings) as process:
        port = int(
            await wait_for(process, log, r"2 processes, running on http://127\.0\.0\.1:(\d+)")
        )
        common, one, two = (f"http://127.0.0.1:{port + at}" for at in range(3))
        await until_answered(common)  # nothing listens there before
        await until_answered(one)
        await until_answered(two)
        answers = [await score(url) for url in (common, one, two, *[common] * 20)]
        assert {answer.status_code for answer in answers} == {200}
        assert len({str(answer.json()["scores"]) for answer in answers}) == 1

        async with httpx.AsyncClient(timeout=30) as client:
            for path in ("/metrics", "/v1/cache", "/v1/slow", "/v2/models/toy/stats"):
                refused = await client.get(common + path)
                assert (path, refused.status_code) == (path, 421)
            assert (
                f"expected the port of one process: {port + 1}, {port + 2}"
                in refused.json()["error"]
            )
            unload = await client.post(f"{common}/v2/repository/models/toy/unload")
            assert unload.status_code == 421
            counted = [(await client.get(f"{url}/metrics")).text for url in (one, two)]
        pattern = r'absorb_request_duration_seconds_count{route="/v1/score"} (\S+)'
        numbers = [float(found) for text in counted for found in re.findall(pattern, text)]
        assert len(numbers) == 2  # both have scored
        assert sum(numbers) == len(answers)

        before = pids(process)
        os.kill(before[1], signal.SIGKILL)
        await asyncio.sleep(0.2)
        assert (await score(two)).status_code == 200
        await wait_for(process, log, "(a process ended)")
        while set(now := pids(process)) != {1, 2}:
            await asyncio.sleep(0.05)
        assert now[1] != before[1]
        assert now[2] == before[2]
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 60) == 0
    assert not [pid for pid in now.values() if psutil.pid_exists(pid)]


async def test_the_processes_end_when_their_parent_is_killed(world: World, tmp_path: Path):
    log = tmp_path / "log"
    settings = {"cache_url": world.url, "artifact_dir": str(world.artifacts), "processes": "2"}
    with service_process(log, drain_delay_s="0", **settings) as process:
        await wait_for(process, log, "(generation serves)(?s:.*)generation serves")
        left = [psutil.Process(pid) for pid in pids(process).values()]
        process.kill()
    _, alive = await asyncio.to_thread(psutil.wait_procs, left, 30)
    assert (len(left), alive) == (2, [])


async def test_a_fleet_whose_processes_cannot_start_ends(world: World, tmp_path: Path):
    log = tmp_path / "log"
    taken = bind("127.0.0.1", 0)
    taken.listen()
    port = taken.getsockname()[1]
    with service_process(
        log, cache_url=world.url, artifact_dir=str(world.artifacts), processes="2", port=str(port)
    ) as process:
        assert await asyncio.to_thread(process.wait, 60) == 1
    taken.close()
    assert f"ABSORB_PORT: {port}: Address already in use" in log.read_text()


def test_two_fleets_do_not_share_a_port():
    with bind("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        bind("127.0.0.1", port).close()  # of the same fleet
        first.listen()
        with pytest.raises(OSError, match="in use"):
            check_free("127.0.0.1", port)
