"""The service as a process of its own, for tests of starting and ending it."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.service.toy import Toy

ROOT = Path(__file__).parents[2]
TOY = Toy()


@contextmanager
def service_process(log: Path, **settings: str) -> Iterator["subprocess.Popen[bytes]"]:
    variables = {f"ABSORB_{name.upper()}": value for name, value in settings.items()}
    environment = {**os.environ, "ABSORB_PORT": "0", **variables}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "service"],
            cwd=ROOT,
            env=environment,
            stderr=output,
            stdout=output,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def wait_for(process: "subprocess.Popen[bytes]", log: Path, pattern: str) -> str:
    while not (found := re.search(pattern, log.read_text())):
        assert process.poll() is None, log.read_text()
        await asyncio.sleep(0.05)
    return found[1]


async def until_ready(client: httpx.AsyncClient) -> None:
    while (await client.get("/health/ready")).status_code != 200:
        await asyncio.sleep(0.05)
