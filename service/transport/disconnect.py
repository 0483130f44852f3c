"""Cancels a request's work when its client closes the connection.

Uvicorn reports a disconnect only to a task that waits for it. Such a task is started only after the first milliseconds,
in which nearly all requests are answered; until then there is one timer, which costs next to nothing.
"""

import asyncio
from types import TracebackType
from typing import Any

from starlette.types import Receive

from service.errors import ClientGoneError

WATCH_AFTER_S = 0.02
"""Seconds after which the connection is watched: how long work continues for a client that left at once."""


class CancelledOnDisconnect:
    """Cancel the code inside when the client closes the connection. The body must have been read to its end.

    Raises:
        ClientGoneError: the client closed the connection.
    """

    __slots__ = ("_is_gone", "_loop", "_receive", "_task", "_timer", "_waiting")

    def __init__(self, receive: Receive) -> None:
        """Store the connection.

        Args:
            receive: ASGI callable of the request.
        """
        self._receive = receive
        self._is_gone = False
        self._waiting: asyncio.Task[None] | None = None

    def __enter__(self) -> None:
        """Start the timer."""
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task(self._loop)
        self._timer = self._loop.call_later(WATCH_AFTER_S, self._start)

    def __exit__(
        self, _: object, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop watching."""
        self._timer.cancel()
        if self._waiting is not None:
            self._waiting.cancel()
        task = self._task
        if isinstance(error, asyncio.CancelledError) and self._is_gone and task is not None:
            # This cancellation was ours, and ends here. Any other cancellation is passed on.
            if task.uncancel() > 0:
                return
            raise ClientGoneError from None

    def _start(self) -> None:
        if self._task is not None:
            self._waiting = self._loop.create_task(self._wait(self._task))

    async def _wait(self, task: "asyncio.Task[Any]") -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._is_gone = True
        task.cancel()
