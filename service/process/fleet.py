"""Several processes behind one port: one interpreter runs Python on one core at a time, whatever it has of threads.

Each is a whole service with a socket of its own on the common port (SO_REUSEPORT: the kernel deals connections out) and
a port of its own, where what is one process's is asked for: the common port and its number, from 1.

    a process is new   it listens on the common port once it is ready, and on its own from the beginning
    a process ends     its connections are lost, the others serve on, and another one is started
    one cannot start   nothing is started again: all end, with its status
    SIGTERM, SIGINT    every process drains; this one ends when all have, with the highest status
    this one is killed the others drain, since their standard input ends
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
"""A process that ends by itself sooner than this never served: the next one would do no better."""
PAUSE_S = 1.0
"""Between a process's end and the next one's start."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Seat:
    """What a process of a fleet is told, and what it is not by itself.

    Attributes:
        number: from 1.
        fd: of its socket on the common port.
    """

    number: int
    fd: int

    def settings(self, settings: Settings, common_port: int) -> Settings:
        """The fleet's settings with this one's own ports."""
        grpc = settings.grpc_port
        grpc_port = grpc + self.number - 1 if grpc else grpc
        return settings.model_copy(
            update={"port": common_port + self.number, "grpc_port": grpc_port}
        )


@dataclass
class Fleet:
    """Starts processes, keeps as many alive, and passes the signals on.

    Attributes:
        host: to listen on.
        port: the common one.
        size: how many processes.
    """

    host: str
    port: int
    size: int
    _running: "dict[int, tuple[subprocess.Popen[bytes], float]]" = field(default_factory=dict)
    _status: int = 0
    _is_ending: bool = False

    def run(self) -> int:
        """Until a signal says to stop, or a process does not even start; gives the exit status."""
        for sig in (signal.SIGTERM, signal.SIGINT):
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
        # The process alone keeps its socket: with its end the kernel deals nothing to it any more.
        with bind(self.host, self.port) as own:
            fd = own.fileno()
            command = [sys.executable, "-m", "service", "--number", str(number), "--fd", str(fd)]
            process = subprocess.Popen(
                command,
                pass_fds=[fd],
                stdin=subprocess.PIPE,  # it ends when this process does, however that comes
                start_new_session=True,  # Ctrl-C is passed on, once, and not said twice
            )
        self._running[number] = process, time.monotonic()
        if self._is_ending:  # since a moment ago
            process.send_signal(signal.SIGTERM)

    def _ended(self, number: int, status: int, lived_s: float) -> None:
        del self._running[number]
        if self._is_ending:
            told_early = status == -signal.SIGTERM  # before it was ready to be told
            self._status = max(self._status, 0 if told_early else abs(status))
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
        """Once: drain; again: end."""
        self._is_ending = True
        for process, _started in list(self._running.values()):
            process.send_signal(signal.SIGTERM)


def bind(host: str, port: int) -> socket.socket:
    """A socket on a port that others of ours have, too.

    Raises:
        OSError: the port is somebody else's.
    """
    one = socket.socket(_family(host))
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    one.bind((host, port))
    return one


def check_free(host: str, port: int) -> None:
    """Return if nobody listens on a port, not even another fleet, with which the kernel would share it.

    Raises:
        OSError: somebody does.
    """
    with socket.socket(_family(host)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def end_with_parent() -> None:
    """Have this process drain when the one that started it is gone."""

    def wait() -> None:
        os.read(
            0, 1
        )  # not through sys.stdin, whose lock this thread would still hold when the interpreter ends
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="parent", daemon=True).start()
