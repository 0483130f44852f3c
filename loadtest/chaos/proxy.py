"""A proxy between the service and its cache that delays or cuts answers."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

CHUNK_BYTES = 1 << 16


class Proxy:
    """A unix socket in front of another unix socket.

    Attributes:
        delay_s: delay of every answer in seconds; may be changed at any time.
        is_cutting: cut every answer after its first half and close the connection.
    """

    def __init__(self, target: Path, path: Path) -> None:
        self._target = target
        self._path = path
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.delay_s = 0.0
        self.is_cutting = False

    @property
    def url(self) -> str:
        """URL of the cache for the service."""
        return f"unix://{self._path}"

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_unix_server(self._serve, self._path)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            cache_reader, cache_writer = await asyncio.open_unix_connection(str(self._target))
        except OSError:
            writer.close()
            return
        for coroutine in (
            self._requests(reader, cache_writer),
            self._answers(cache_reader, writer),
        ):
            task = asyncio.create_task(coroutine)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _pump(reader, writer, self._unchanged)

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _pump(reader, writer, self._spoil)

    async def _unchanged(self, part: bytes) -> tuple[bytes, bool]:
        return part, True

    async def _spoil(self, part: bytes) -> tuple[bytes, bool]:
        await asyncio.sleep(self.delay_s)
        return (part[: len(part) // 2], False) if self.is_cutting else (part, True)

    async def close(self) -> None:
        """Stop listening and close all connections."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


Change = Callable[[bytes], Awaitable[tuple[bytes, bool]]]


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, change: Change) -> None:
    """Pass parts on, each changed by `change`, until `change` returns false or either side closes."""
    is_going_on = True
    with suppress(OSError):
        while is_going_on and (part := await reader.read(CHUNK_BYTES)):
            changed, is_going_on = await change(part)
            writer.write(changed)
            await writer.drain()
    writer.close()
