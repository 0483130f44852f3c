"""Drain: how the process ends after SIGTERM, SIGINT or SIGHUP (its terminal was closed).

    signal          /health/ready and /v2/health/ready answer 503; all requests are still served
    + delay         no new connections over HTTP or gRPC; idle ones are closed. Load balancers have noticed by now
    + limit         requests still in flight are cut off
    second signal   the same at once

A supervisor must wait for delay + limit before it kills the process. The exit status is 0, or 1 after a second signal.
"""

import asyncio
import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from types import FrameType

import uvicorn

from service.process.descriptors import Descriptors
from service.runtime.readiness import Readiness
from service.runtime.workers import Workers

LOOK_EVERY_S = 0.1

log = logging.getLogger(__name__)


class DrainingServer(uvicorn.Server):
    """Uvicorn's server with a drain; uvicorn itself stops listening at the first signal."""

    def __init__(
        self,
        config: uvicorn.Config,
        readiness: Readiness,
        delay_s: float,
        close_grpc: Callable[[], None],
        common: socket.socket | None = None,
    ) -> None:
        """Make the server, without listening.

        Args:
            config: uvicorn's config; `timeout_graceful_shutdown` is the limit.
            readiness: not ready from the first signal on.
            delay_s: seconds from the first signal until the server stops listening.
            close_grpc: called when the server stops listening; must return at once.
            common: socket of the shared port; listened on once this process is ready. None: no shared port.
        """
        super().__init__(config)
        self._readiness = readiness
        self._delay_s = delay_s
        self._close_grpc = close_grpc
        self._stop_at_s: float | None = None
        self._common = common
        self._descriptors = Descriptors()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Start the drain; at the second signal, end at once."""
        if self._stop_at_s is None:
            self._readiness.drain()
            self._stop_at_s = time.monotonic() + self._delay_s
        else:
            self._stop_at_s = 0.0
            self.force_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Whether to stop listening; uvicorn calls this every 0.1 s."""
        if self._stop_at_s is not None and time.monotonic() >= self._stop_at_s:
            self.should_exit = True
        if self._common is not None and self._readiness.is_ready():
            common, self._common = self._common, None
            await self._listen(common)
        self._descriptors.tick()
        return await super().on_tick(counter)

    async def _listen(self, common: socket.socket) -> None:
        """Listen on one more socket, as uvicorn does on its first."""
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
        """Stop HTTP and gRPC; return once the requests in flight have finished, or at the second signal."""
        self._close_grpc()
        ending = asyncio.create_task(super().shutdown(sockets))
        while not ending.done() and not self.force_exit:
            await asyncio.wait([ending], timeout=LOOK_EVERY_S)
        if ending.done():
            ending.result()


def serve_until_signal(server: DrainingServer, workers: Workers) -> None:
    """Serve until a signal, and end the process even if a scoring thread never finishes."""
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup ignores it
        signal.signal(signal.SIGHUP, server.handle_exit)
    server.run()
    status = 1 if server.force_exit else 0
    if status or workers.longest_s() > 0:
        # The interpreter would wait for the pool's threads, which cannot be stopped.
        log.warning("exiting while threads still score", extra={"status": status})
        logging.shutdown()
        os._exit(status)
