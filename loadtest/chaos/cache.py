"""A real cache server that can be made to fail: killed, stopped, emptied, filled, and its records overwritten."""

import asyncio
import os
import shutil
import signal
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from builder.publish.blue_green import publish
from builder.publish.cache import CacheClient, connect_cache
from builder.publish.generations import new_generation
from models.contract.artifact import Artifact
from models.contract.embedded_cache import start_server, stop_server
from models.contract.generation import Generation

APPEND_ONLY = "appendonlydir"
Work = Callable[[CacheClient], object]


class Cache:
    """A Valkey server over a unix socket. Blocking calls run in a thread.

    Attributes:
        url: URL for the service.
    """

    def __init__(self, folder: Path) -> None:
        """Keep the folder; `start` starts the server.

        Args:
            folder: folder with a short path, because a unix socket's path is limited; removed by `close`.
        """
        self._folder = folder
        self.url = ""

    async def start(self) -> None:
        """Start the server with its earlier content."""
        self.url = f"unix://{await asyncio.to_thread(start_server, self._folder)}"

    def kill(self) -> None:
        """SIGKILL the server; its content stays on disk."""
        os.kill(self._pid, signal.SIGKILL)

    def pause(self) -> None:
        """SIGSTOP the server: connections stay open without answers."""
        os.kill(self._pid, signal.SIGSTOP)

    def resume(self) -> None:
        """End a pause."""
        os.kill(self._pid, signal.SIGCONT)

    async def empty(self) -> None:
        """Kill the server and start it empty, like a server without persistence."""
        self.kill()
        await asyncio.to_thread(shutil.rmtree, self._folder / APPEND_ONLY)
        await self.start()

    async def fill(self, spare_bytes: int) -> None:
        """Set `maxmemory` to the memory in use plus `spare_bytes`; 0 removes the limit."""

        def limit(client: CacheClient) -> None:
            used = int(client.info("memory")["used_memory"])
            client.config_set("maxmemory", str(used + spare_bytes if spare_bytes else 0))

        await self.do(limit)

    async def get(self, key: str) -> bytes:
        """Value of a key; empty if the key does not exist."""
        values: list[bytes] = []

        def read(client: CacheClient) -> None:
            value = client.get(key)
            values.append(value if isinstance(value, bytes) else b"")

        await self.do(read)
        return values[0]

    async def put(self, values: Mapping[str, bytes]) -> None:
        """Overwrite keys."""

        def write(client: CacheClient) -> None:
            for key, value in values.items():
                client.set(key, value)

        await self.do(write)

    async def publish(
        self,
        model: str,
        artifact: Artifact,
        records: Mapping[str, bytes],
        announce: Callable[[Generation], None],
        before: Callable[[Generation], Awaitable[None]] | None = None,
    ) -> Generation:
        """Publish a generation as the builder does.

        Args:
            model: name under which it is served.
            artifact: the artifact that made the records.
            records: user -> encoded record.
            announce: called with the generation before it can serve.
            before: the same, awaited; None: nothing is to be done.

        Raises:
            PublishError: the generation does not fit into the cache.
            CacheUnavailableError: the cache stopped answering.
        """
        manifest = artifact.manifest
        generation = new_generation(
            model, artifact.artifact_id, len(records), manifest.as_of_s, "fp32", datetime.now(UTC)
        )
        announce(generation)
        if before is not None:
            await before(generation)

        def send(client: CacheClient) -> None:
            publish(client, generation, records.items(), manifest.state_spec)

        await self.do(send)
        return generation

    async def do(self, work: Work) -> None:
        """Call `work` with a client, in a thread."""

        def connected() -> None:
            client = connect_cache(self.url)
            try:
                work(client)
            finally:
                client.close()

        await asyncio.to_thread(connected)

    async def close(self) -> None:
        """Stop the server, also a paused one, and remove its folder."""
        with suppress(ProcessLookupError, FileNotFoundError):
            self.resume()
        await asyncio.to_thread(stop_server, self._folder)
        await asyncio.to_thread(shutil.rmtree, self._folder, True)

    @property
    def _pid(self) -> int:
        return int((self._folder / "valkey.pid").read_text())
