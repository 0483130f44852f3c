"""Cancels a request's work when its client closes the connection.

Uvicorn reports a disconnect only to a task that waits for it. Such a task is started only after the first milliseconds,
in which nearly all requests are answered; until then there is one timer, which costs next to nothing.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.types import Receive

from service.errors import ClientGoneError

WATCH_AFTER_S = 0.02
"""Seconds after which the connection is watched: how long work continues for a client that left at once."""


@contextmanager
def cancelled_on_disconnect(receive: Receive) -> Iterator[None]:
    """Cancel the code inside when the client closes the connection. The body must have been read to its end.

    Raises:
        ClientGoneError: the client closed the connection.
    """
    task = asyncio.current_task()
    watch = _Watch(receive, task) if task is not None else None
    try:
        yield
    except asyncio.CancelledError:
        if watch is None or not watch.is_gone or task is None:
            raise
        # This cancellation was ours, and ends here. Any other cancellation is passed on.
        if task.uncancel() > 0:
            raise
        raise ClientGoneError from None
    finally:
        if watch is not None:
            watch.stop()


class _Watch:
    """Waits for the disconnect, once the timer has fired."""

    def __init__(self, receive: Receive, task: "asyncio.Task[object]") -> None:
        self.is_gone = False
        self._receive = receive
        self._task = task
        self._waiting: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(WATCH_AFTER_S, self._start)

    def stop(self) -> None:
        """Stop watching."""
        self._timer.cancel()
        if self._waiting is not None:
            self._waiting.cancel()

    def _start(self) -> None:
        self._waiting = asyncio.get_running_loop().create_task(self._wait())

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.is_gone = True
        self._task.cancel()
