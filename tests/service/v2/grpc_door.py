"""A process that serves gRPC, for its tests.

The client's stubs and the service's name the same symbols, which one process cannot hold twice: nothing here imports
the server.
"""

import asyncio
import re
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import tritonclient.grpc as triton

from models.contract.embedded_cache import start_server, stop_server
from models.contract.generation import Generation
from tests.service.running import service_process, wait_for
from tests.service.toy import Toy
from tests.service.world import World

CALL = "/inference.GRPCInferenceService/"
COUNTED_LIMIT_S = 10.0


@dataclass(frozen=True)
class Door:
    """A process that serves, and how to reach it."""

    url: str
    http: str
    client: Any
    channel: grpc.Channel
    log: Path
    process: "subprocess.Popen[bytes]"
    world: World
    generation: Generation
    """That of the first model."""

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def metrics(self) -> str:
        with urllib.request.urlopen(f"{self.http}/metrics") as answer:
            return str(answer.read().decode())

    def counted(self, route: str) -> dict[int, int]:
        """Status -> calls of a route that were counted with it."""
        found = re.findall(
            rf'absorb_requests_total{{code="(\d+)",method="GRPC",.*route="{route}"}} (\S+)',
            self.metrics(),
        )
        counts: dict[int, int] = {}
        for status, number in found:
            counts[int(status)] = counts.get(int(status), 0) + int(float(number))
        return counts

    def until_counted(self, route: str, status: int, number: int = 1) -> int:
        """Calls that were counted, once there are as many; those that were counted in time if there are not."""
        deadline = time.monotonic() + COUNTED_LIMIT_S
        while (got := self.counted(route).get(status, 0)) < number:
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)
        return got


@contextmanager
def open_door(out: Path, models: Mapping[str, Toy], **settings: str) -> Iterator[Door]:
    """Publish the models, and serve them over gRPC until the block ends."""
    folder = Path(tempfile.mkdtemp(prefix="ab", dir="/tmp"))
    start_server(folder)
    world = World(f"unix://{folder}/valkey.sock", out / "artifacts")
    generation, *_ = [world.publish(toy, model=name) for name, toy in models.items()]
    usual = {
        "cache_url": world.url,
        "artifact_dir": str(world.artifacts),
        "default_model": next(iter(models)),
        "grpc_port": "0",
        "cache_timeout_ms": "2000",
        "drain_delay_s": "0",
        "access_log": "INFO",
    }
    with service_process(out / "log", **{**usual, **settings}) as process:
        http, port = asyncio.run(_addresses(process, out / "log"))
        url = f"127.0.0.1:{port}"
        with grpc.insecure_channel(url) as channel, triton.InferenceServerClient(url) as client:
            while not client.is_server_ready():
                time.sleep(0.02)
            address = f"http://127.0.0.1:{http}"
            yield Door(url, address, client, channel, out / "log", process, world, generation)
    stop_server(folder)
    shutil.rmtree(folder)


async def _addresses(process: "subprocess.Popen[bytes]", log: Path) -> tuple[str, str]:
    await wait_for(process, log, "(generation serves)")
    http = await wait_for(process, log, r"running on http://127\.0\.0\.1:(\d+)")
    return http, await wait_for(process, log, r"gRPC running on 127\.0\.0\.1:(\d+)")
