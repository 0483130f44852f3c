"""Is the client still there? One that has gone away is not worked for.

Uvicorn tells only those who ask, and asking takes a task. So nobody asks during the first milliseconds, in which nearly
all requests are answered: a timer that never fires costs next to nothing.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.types import Receive

from service.errors import ClientGoneError

ASK_AFTER_S = 0.02
"""How long a client that went away at once is worked for at most."""


@contextmanager
def while_present(receive: Receive) -> Iterator[None]:
    """Cancel what goes on inside when the client closes the connection. Its body must have been read to the end.

    Raises:
        ClientGoneError: it has.
    """
    task = asyncio.current_task()
    watch = _Watch(receive, task) if task is not None else None
    try:
        yield
    except asyncio.CancelledError:
        if watch is None or not watch.is_gone or task is None:
            raise
        # Cancelled by us: the task goes on, and answers nobody. Somebody else's cancellation stays one.
        if task.uncancel() > 0:
            raise
        raise ClientGoneError from None
    finally:
        if watch is not None:
            watch.stop()


class _Watch:
    """Waits for the client to go away, once the timer has fired."""

    def __init__(self, receive: Receive, task: "asyncio.Task[object]") -> None:
        self.is_gone = False
        self._receive = receive
        self._task = task
        self._asking: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(ASK_AFTER_S, self._start)

    def stop(self) -> None:
        """Ask no longer."""
        self._timer.cancel()
        if self._asking is not None:
            self._asking.cancel()

    def _start(self) -> None:
        self._asking = asyncio.get_running_loop().create_task(self._ask())

    async def _ask(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.is_gone = True
        self._task.cancel()
