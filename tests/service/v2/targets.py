"""Servers that unmodified clients are run against: this service as a process, a real Triton, or any other V2 server."""

import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from service.tools.running_service import running_service
from tests.service.toy import Toy
from tests.service.world import World

ROOT = Path(__file__).parents[3]
CONFORMANCE = ROOT / "var/conformance"
"""Venvs of what does not install beside our own dependencies; `make conformance` makes them."""
START_LIMIT_S = 60


@dataclass(frozen=True)
class Target:
    """A V2 server with a model `toy` that takes `user_id` and `candidates` and gives `scores`.

    Attributes:
        host: host:port, as clients want it.
        access: headers that open what is restricted.
        kind: scores of ours are known, and it does all that this service promises.
    """

    host: str
    kind: Literal["absorb", "triton", "other"]
    access: dict[str, str] = field(default_factory=dict)

    @property
    def is_ours(self) -> bool:
        return self.kind == "absorb"

    @property
    def url(self) -> str:
        return f"http://{self.host}"


def interpreter(name: str) -> Path:
    """Python of a venv under `CONFORMANCE`."""
    return CONFORMANCE / name / "bin/python"


def needs(name: str) -> pytest.MarkDecorator:
    """Skips where a venv is not there, before anything is started."""
    reason = f"{name} is not installed: `make conformance` does, and runs these tests"
    return pytest.mark.skipif(not interpreter(name).exists(), reason=reason)


@contextmanager
def absorb(cache_url: str, folder: Path) -> Iterator[Target]:
    """`python -m service` over an emptied cache with a published toy."""
    world = World(cache_url, folder / "artifacts")
    with world.redis as client:
        client.flushall()
    world.publish(Toy())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ABSORB_CACHE_URL", cache_url)
        patch.setenv("ABSORB_ARTIFACT_DIR", str(world.artifacts))
        patch.setenv("ABSORB_CACHE_TIMEOUT_MS", "2000")
        with running_service(folder / "service.log") as url:
            yield Target(url.removeprefix("http://"), "absorb")


@contextmanager
def triton(folder: Path) -> Iterator[Target]:
    """Triton of nvidia-pytriton, with `oracle.py` in it."""
    python = interpreter("triton")
    ports = [str(free_port()) for _ in range(3)]
    log = folder / "triton.log"
    path = f"{python.parent}:{os.environ['PATH']}"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [python, Path(__file__).with_name("oracle.py"), *ports],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env={**os.environ, "PATH": path},
        ) as process,
    ):
        access = {"triton-access-token": "toy"}
        target = Target(f"127.0.0.1:{ports[0]}", "triton", access=access)
        try:
            wait_until_ready(f"{target.url}/v2/models/toy/ready", process, log)
            yield target
        finally:
            process.communicate()


def wait_until_ready(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while not answers(url):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except (OSError, urllib.error.HTTPError):
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
