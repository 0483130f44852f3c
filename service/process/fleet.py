"""A fleet: several processes that share one port, since one Python interpreter uses one core at a time.

Each process is a whole service. It listens on the shared port with its own socket (SO_REUSEPORT: the kernel distributes
connections), and on a port of its own for process-local endpoints: the shared port plus its number, from 1.

    process starts           it listens on its own port at once, and on the shared port when it is ready
    process ends             its connections are lost, the other processes go on, and a new process is started
    process cannot start     no process is started again; all end, and the parent exits with that status
    SIGTERM, SIGINT, SIGHUP  every process drains; the parent exits after the last, with the highest status
    parent is killed         the processes drain, since their standard input is closed
"""

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from types import FrameType

from service.settings import Settings

LOOK_EVERY_S = 0.1
SERVED_AFTER_S = 10.0
"""A process that exits sooner than this could not start; another one would fail the same way."""
PAUSE_S = 1.0
"""Pause between the end of a process and the start of the next."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Seat:
    """The place of one process in a fleet.

    Attributes:
        number: number of the process, from 1.
        fd: file descriptor of its socket on the shared port.
    """

    number: int
    fd: int

    def settings(self, settings: Settings, common_port: int) -> Settings:
        """The fleet's settings, with this process's own ports."""
        grpc = settings.grpc_port
        grpc_port = grpc + self.number - 1 if grpc else grpc
        return settings.model_copy(
            update={"port": common_port + self.number, "grpc_port": grpc_port}
        )


@dataclass
class Fleet:
    """Starts the processes, replaces those that end, and forwards signals.

    Attributes:
        host: address to listen on.
        port: the shared port.
        size: number of processes.
    """

    host: str
    port: int
    size: int
    _running: "dict[int, tuple[subprocess.Popen[bytes], float]]" = field(default_factory=dict)
    _status: int = 0
    _is_ending: bool = False

    def run(self) -> int:
        """Run until a signal, or until a process cannot start; return the exit status."""
        for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if signal.getsignal(sig) is not signal.SIG_IGN:  # nohup ignores SIGHUP
                signal.signal(sig, self._stop)
        for number in range(1, self.size + 1):
            self._start(number)
        while self._running:
            time.sleep(LOOK_EVERY_S)
            for number, (process, started_s) in list(self._running.items()):
                if process.poll() is not None:
                    self._ended(number, process.returncode, time.monotonic() - started_s)
        return self._status

    def _start(self, number: int) -> None:
        # Only the process holds its socket: when it ends, the kernel sends it no more connections.
        with bind(self.host, self.port) as own:
            fd = own.fileno()
            command = [sys.executable, "-m", "service", "--number", str(number), "--fd", str(fd)]
            process = subprocess.Popen(
                command,
                pass_fds=[fd],
                stdin=subprocess.PIPE,  # closed when this process ends, even by SIGKILL
                start_new_session=True,  # Ctrl-C reaches only this process, which forwards it once
            )
        self._running[number] = process, time.monotonic()
        if self._is_ending:  # a signal arrived during the start
            process.send_signal(signal.SIGTERM)

    def _ended(self, number: int, status: int, lived_s: float) -> None:
        del self._running[number]
        if self._is_ending:
            ended_early = status == -signal.SIGTERM  # before it had a signal handler
            self._status = max(self._status, 0 if ended_early else abs(status))
            return
        log.error("a process ended", extra={"number": number, "status": status})
        if status >= 0 and lived_s < SERVED_AFTER_S:
            self._status = status or 1
            self._stop(signal.SIGTERM, None)
            return
        time.sleep(PAUSE_S)
        if not self._is_ending:
            self._start(number)

    def _stop(self, _: int, __: FrameType | None) -> None:
        """Forward a signal: the first starts the drain, the second ends it."""
        self._is_ending = True
        for process, _started in list(self._running.values()):
            process.send_signal(signal.SIGTERM)


def bind(host: str, port: int) -> socket.socket:
    """A socket bound to a port that the processes of a fleet share.

    Raises:
        OSError: another program uses the port.
    """
    bound = socket.socket(_family(host))
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind((host, port))
    return bound


def check_free(host: str, port: int) -> None:
    """Check that no process listens on a port. `bind` alone would succeed beside another fleet, and share its port.

    Raises:
        OSError: the port is in use.
    """
    with socket.socket(_family(host)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def end_with_parent() -> None:
    """Drain this process when its parent process ends."""

    def wait() -> None:
        # Not through sys.stdin: this thread would still hold its lock when the interpreter exits.
        os.read(0, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="parent", daemon=True).start()
