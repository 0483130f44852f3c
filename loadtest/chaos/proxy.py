"""Stands between the service and its cache: passes bytes on, late, or only half of them."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

CHUNK_BYTES = 1 << 16


class Proxy:
    """A unix socket in front of another one.

    Attributes:
        delay_s: that every answer waits; changed at any time.
        is_cutting: every answer is cut after its first half, and the connection with it.
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
        """For the service."""
        return f"unix://{self._path}"

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_unix_server(self._serve, self._path)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            theirs, ours = await asyncio.open_unix_connection(str(self._target))
        except OSError:
            writer.close()
            return
        for coroutine in (self._ask(reader, ours), self._answer(theirs, writer)):
            task = asyncio.create_task(coroutine)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _pump(reader, writer, self._unchanged)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _pump(reader, writer, self._spoil)

    async def _unchanged(self, part: bytes) -> tuple[bytes, bool]:
        return part, True

    async def _spoil(self, part: bytes) -> tuple[bytes, bool]:
        await asyncio.sleep(self.delay_s)
        return (part[: len(part) // 2], False) if self.is_cutting else (part, True)

    async def close(self) -> None:
        """Stop listening and cut what is open."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


Change = Callable[[bytes], Awaitable[tuple[bytes, bool]]]


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, change: Change) -> None:
    """Pass parts on, each as `change` gives it, until it says to stop or either side closes."""
    goes_on = True
    with suppress(OSError):
        while goes_on and (part := await reader.read(CHUNK_BYTES)):
            changed, goes_on = await change(part)
            writer.write(changed)
            await writer.drain()
    writer.close()
