"""A cache server of the test's own, in which faults happen, and builds to publish there."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from builder.publish.blue_green import publish
from builder.publish.cache import CacheClient, connect_cache
from builder.publish.generations import find_generations, new_generation, read_pointer
from models.contract.embedded_cache import SOCKET, start_server, stop_server
from models.contract.generation import Generation
from tests.e2e.builders import NAME, TINY, Build, finish
from tests.e2e.deadline import wait_until
from tests.e2e.expected import Expected, read_expected
from tests.e2e.traffic import Ask, make_asks


@dataclass(frozen=True)
class Cache:
    """A real server's folder, and a client of it.

    Attributes:
        folder: short, since sockets live in it.
    """

    folder: Path
    client: CacheClient

    @property
    def socket(self) -> Path:
        return self.folder / SOCKET

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def serving(self) -> Generation:
        """What the pointer says."""
        pointer, _ = read_pointer(self.client, NAME)
        assert pointer
        return pointer.current

    def generations(self) -> set[str]:
        """Names of all that have records, finished or not."""
        return find_generations(self.client, NAME)

    def publish(self, build: Expected) -> Generation:
        """Publish a build again, as a generation of its own."""
        manifest, artifact_id = build.artifact.manifest, build.artifact.artifact_id
        generation = new_generation(
            NAME, artifact_id, len(build.records), manifest.as_of_s, build.dtype, datetime.now(UTC)
        )
        return publish(self.client, generation, build.records.items(), manifest.state_spec).current

    def kill(self) -> None:
        """Kill -9 of the server, which stays down."""
        pid = int((self.folder / "valkey.pid").read_text())
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not stop_server(self.folder), "the killed server to be gone")

    def stop(self) -> None:
        """A clean stop."""
        assert stop_server(self.folder)

    def start(self) -> None:
        """Start the server again over what it has written."""
        start_server(self.folder)


@contextmanager
def cache_server() -> Iterator[Cache]:
    """A server with nothing in it."""
    folder = Path(tempfile.mkdtemp(prefix="ab", dir="/tmp"))
    start_server(folder)
    client = connect_cache(f"unix://{folder / SOCKET}")
    try:
        yield Cache(folder, client)
    finally:
        client.close()
        stop_server(folder)
        shutil.rmtree(folder)


@dataclass(frozen=True)
class FirstBuild:
    """The tiny recipe, built by the command line.

    Attributes:
        build: how it was started; its cache is gone.
        expected: what it must answer.
    """

    build: Build
    expected: Expected

    def copy(self, folder: Path, cache_url: str) -> Build:
        """The same run in a folder of its own, as on another machine."""
        shutil.copytree(self.build.runs, folder / "runs")
        return Build(self.build.recipe, folder / "runs", self.build.artifacts, cache_url)

    def asks(self, num_asks: int = 60) -> list[Ask]:
        """Requests for users who are known, and for one in four who is not."""
        users = sorted(self.expected.records)[:num_asks]
        mixed = [f"nobody-{at}" if at % 4 == 3 else user for at, user in enumerate(users)]
        return make_asks(mixed, self.expected.artifact.vocabulary.items, num_asks, seed=0)


def build_first(folder: Path) -> FirstBuild:
    """Run the tiny recipe into a cache that is only read once."""
    with cache_server() as cache:
        build = Build(TINY, folder / "runs", folder / "artifacts", cache.url)
        finish(build.run())
        return FirstBuild(build, read_expected(cache.client, cache.serving(), build.artifacts))
