"""The service as a process that can be killed, drained and started again on the same port."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import psutil

from loadtest.chaos.http_client import fetch, get
from loadtest.chaos.memory import resident_bytes
from service.errors import NotReadyError
from service.tools.running_service import LOG_TAIL_LINES, START_LIMIT_S, STOP_LIMIT_S, free_port

ROOT = Path(__file__).parents[2]
LOOK_EVERY_S = 0.02
ENGINE = frozenset({"ABSORB_ENGINE", "ABSORB_NATIVE_LIBRARY"})
"""Variables of the caller that say what scores."""
READY = get("/health/ready")


class Service:
    """`python -m service` on a port of this machine.

    Attributes:
        port: the port; the same after every start.
    """

    def __init__(self, settings: Mapping[str, str], log_path: Path) -> None:
        """Keep the settings; `launch` starts the process.

        Args:
            settings: the service's environment variables. Others are passed on; of the caller's `ABSORB_*`, those
                of the engine.
            log_path: file for the logs of all starts.
        """
        self.port = free_port()
        # The caller's own settings would change what is tested.
        plain = {
            name: value
            for name, value in os.environ.items()
            if name in ENGINE or not name.startswith("ABSORB_")
        }
        self._variables = {**plain, **settings, "ABSORB_PORT": str(self.port)}
        self._log_path = log_path
        self._process: subprocess.Popen[bytes] | None = None

    def launch(self) -> None:
        """Start the process; `wait_until_ready` waits until it can score."""
        command = [sys.executable, "-m", "service"]
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=self._variables, stdout=log, stderr=log
            )

    @property
    def pid(self) -> int:
        """Process id of the last start."""
        return self._running.pid

    @property
    def _running(self) -> "subprocess.Popen[bytes]":
        if self._process is None:
            raise NotReadyError("the service was not started")
        return self._process

    async def wait_until_ready(self) -> None:
        """Wait until the service can score.

        Raises:
            NotReadyError: the process ended or is not ready in time; with its last log lines.
        """
        deadline = time.monotonic() + START_LIMIT_S
        while not await self._is_ready():
            if self._running.poll() is not None or time.monotonic() > deadline:
                status = self._running.poll()
                tail = self.log().splitlines()[-LOG_TAIL_LINES:]
                lines = "\n".join(tail)
                raise NotReadyError(f"the service is not ready (exit status {status}):\n{lines}")
            await asyncio.sleep(LOOK_EVERY_S)

    async def _is_ready(self) -> bool:
        return await self.readiness() == 200

    async def readiness(self) -> int:
        """HTTP status of the readiness probe; 0 if there is no answer."""
        try:
            return (await fetch(self.port, READY, limit_s=5.0)).status
        except OSError:
            return 0

    def kill(self) -> None:
        """SIGKILL the process and its children."""
        for child in psutil.Process(self.pid).children(recursive=True):
            child.kill()
        self._running.kill()
        self._running.wait()

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._running.send_signal(signal.SIGTERM)

    async def wait(self) -> int:
        """Wait until the process ends; return its exit status.

        Raises:
            NotReadyError: the process does not end in time.
        """
        deadline = time.monotonic() + STOP_LIMIT_S
        while (status := self._running.poll()) is None:
            if time.monotonic() > deadline:
                raise NotReadyError(f"the service did not end {STOP_LIMIT_S:g} s after SIGTERM")
            await asyncio.sleep(LOOK_EVERY_S)
        return status

    def resident_bytes(self) -> int:
        """Memory of the process and its children."""
        return resident_bytes(self.pid)

    def open_files(self) -> int:
        """Number of open descriptors: sockets and files."""
        return int(psutil.Process(self.pid).num_fds())

    def other_port(self) -> int:
        """The port that the process listens on beside that of HTTP.

        Raises:
            NotReadyError: there is none.
        """
        for connection in psutil.Process(self.pid).net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port != self.port:
                return int(connection.laddr.port)
        raise NotReadyError(f"the service listens on port {self.port} only")

    def log(self) -> str:
        """The whole log."""
        return self._log_path.read_text(errors="replace")

    def close(self) -> None:
        """Kill the process if it runs."""
        if self._process is not None and self._process.poll() is None:
            self.kill()
