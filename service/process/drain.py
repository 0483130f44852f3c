"""How the process ends: not ready at once, served on for a while, nothing new then, and what is in flight finishes.

    signal     /health/ready and /v2/health/ready say 503, and everything is served as before
    + delay    no new connections over HTTP or gRPC, and idle ones are closed: by now nobody sends anything here
    + limit    what is still in flight is cut off
    a second signal does at once what the limit would do

Whoever starts the process must let it have delay + limit before he kills it. It exits with status 0; with 1 if it was
told twice.
"""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable
from types import FrameType

import uvicorn

from service.runtime.readiness import Readiness
from service.runtime.workers import Workers

LOOK_EVERY_S = 0.1

log = logging.getLogger(__name__)


class DrainingServer(uvicorn.Server):
    """Uvicorn's server, which by itself stops listening with the first signal."""

    def __init__(
        self,
        config: uvicorn.Config,
        readiness: Readiness,
        delay_s: float,
        close_other_door: Callable[[], None],
        common: socket.socket | None = None,
    ) -> None:
        """Make it.

        Args:
            config: uvicorn's; `timeout_graceful_shutdown` is the limit.
            readiness: told of the first signal.
            delay_s: seconds between the first signal and the end of listening.
            close_other_door: called at the end of listening; waits for nothing.
            common: a bound socket on which to listen, too, as soon as this process is ready; None: there is none.
        """
        super().__init__(config)
        self._readiness = readiness
        self._delay_s = delay_s
        self._close_other_door = close_other_door
        self._stop_at_s: float | None = None
        self._common = common

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain, or, the second time, end at once."""
        if self._stop_at_s is None:
            self._readiness.drain()
            self._stop_at_s = time.monotonic() + self._delay_s
        else:
            self._stop_at_s = 0.0
            self.force_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Whether to stop listening; asked every tenth of a second."""
        if self._stop_at_s is not None and time.monotonic() >= self._stop_at_s:
            self.should_exit = True
        if self._common is not None and self._readiness.is_ready():
            common, self._common = self._common, None
            await self._listen(common)
        return await super().on_tick(counter)

    async def _listen(self, common: socket.socket) -> None:
        """As uvicorn does on the sockets that it has from the beginning."""
        config, lifespan = self.config, self.lifespan
        opened = await asyncio.get_running_loop().create_server(
            lambda: config.http_protocol_class(  # type: ignore[call-arg]
                config=config, server_state=self.server_state, app_state=lifespan.state
            ),
            sock=common,
            ssl=config.ssl,
            backlog=config.backlog,
        )
        self.servers.append(opened)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close both doors; return when what is in flight has finished, or with the second signal."""
        self._close_other_door()
        ending = asyncio.create_task(super().shutdown(sockets))
        while not ending.done() and not self.force_exit:
            await asyncio.wait([ending], timeout=LOOK_EVERY_S)
        if ending.done():
            ending.result()


def serve_until_told(server: DrainingServer, workers: Workers) -> None:
    """Serve until a signal says to stop, and end the process even if a thread never does."""
    server.run()
    status = 1 if server.force_exit else 0
    if status or workers.longest_s() > 0:
        # The interpreter would wait for the threads, and those of the pool cannot be stopped.
        log.warning("ends while threads still score", extra={"status": status})
        logging.shutdown()
        os._exit(status)
