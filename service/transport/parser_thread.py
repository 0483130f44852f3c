"""Parses large bodies outside of the event loop's thread, one after another.

One thread: a parser holds the interpreter's lock most of the time, so that a second one would only take more of it from
the event loop.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from service.errors import OverloadedError
from service.transport.limits import LARGE_BYTES

MAX_WAITING = 64
"""Large bodies that wait or are parsed; they hold at most this many times `ABSORB_MAX_BODY_BYTES`."""

Arguments = ParamSpec("Arguments")
Parsed = TypeVar("Parsed")


class ParserThread:
    """The thread. Used by the event loop only.

    Attributes:
        waiting: bodies that wait or are parsed.
    """

    def __init__(self, on_rejected: Callable[[str], None]) -> None:
        """Start no thread yet.

        Args:
            on_rejected: called with the reason of each rejection.
        """
        self.waiting = 0
        self._on_rejected = on_rejected
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="parser")

    async def run(
        self,
        parse: Callable[Arguments, Parsed],
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> Parsed:
        """Call `parse` in the thread; raises what it raises.

        Raises:
            OverloadedError: too many large bodies wait.
        """
        if self.waiting >= MAX_WAITING:
            self._on_rejected("parser")
            raise OverloadedError(f"{MAX_WAITING} large bodies wait to be parsed")
        self.waiting += 1
        try:
            return await asyncio.wrap_future(self._thread.submit(parse, *args, **kwargs))
        finally:
            self.waiting -= 1

    async def parse(self, parse: Callable[..., Parsed], raw: bytes, *args: object) -> Parsed:
        """Call `parse` with a body: a small one on the event loop, a large one as `run` does; raises what it raises."""
        if len(raw) > LARGE_BYTES:
            return await self.run(parse, raw, *args)
        return parse(raw, *args)

    def close(self) -> None:
        """Stop the thread after the body that it parses."""
        self._thread.shutdown(wait=False, cancel_futures=True)
