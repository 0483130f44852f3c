"""Several processes behind one port: one interpreter runs Python on one core at a time, whatever it has of threads.

Each is a whole service with a socket of its own on the common port (SO_REUSEPORT: the kernel deals connections out) and
a port of its own, where what is one process's is asked for: the common port and its number, from 1.

    a process ends     its connections are lost, the others serve on, and another one is started; new connections that
                       the kernel has for it wait until then
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
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import FrameType

from service.settings import Settings

LOOK_EVERY_S = 0.1
SERVED_AFTER_S = 10.0
"""A process that ends by itself sooner than this never served: the next one would do no better."""
PAUSE_S = 1.0
"""Between a process's end and the next one's start."""

BACKLOG = 2048

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
    """Starts processes, keeps as many alive, and passes the signals on."""

    sockets: Sequence[socket.socket]
    _running: "dict[int, tuple[subprocess.Popen[bytes], float]]" = field(default_factory=dict)
    _status: int = 0
    _is_ending: bool = False

    def run(self) -> int:
        """Until a signal says to stop, or a process does not even start; gives the exit status."""
        for sig in (signal.SIGTERM, signal.SIGINT):
            signal.signal(sig, self._stop)
        for number in range(1, len(self.sockets) + 1):
            self._start(number)
        while self._running:
            time.sleep(LOOK_EVERY_S)
            for number, (process, started_s) in list(self._running.items()):
                if process.poll() is not None:
                    self._ended(number, process.returncode, time.monotonic() - started_s)
        return self._status

    def _start(self, number: int) -> None:
        fd = self.sockets[number - 1].fileno()
        command = [sys.executable, "-m", "service", "--number", str(number), "--fd", str(fd)]
        # Its standard input ends when this process does, however that comes.
        process = subprocess.Popen(
            command,
            pass_fds=[fd],
            stdin=subprocess.PIPE,
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


def bind(host: str, port: int, number: int) -> list[socket.socket]:
    """Sockets on one port, one for each process.

    Raises:
        OSError: the port is taken, by another fleet, say.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:  # without sharing: fails if anybody is there
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
    sockets = []
    for _ in range(number):
        one = socket.socket(family)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        one.bind((host, port))
        one.listen(BACKLOG)
        port = one.getsockname()[1]
        sockets.append(one)
    return sockets


def end_with_parent() -> None:
    """Have this process drain when the one that started it is gone."""

    def wait() -> None:
        os.read(
            0, 1
        )  # not through sys.stdin, whose lock this thread would still hold when the interpreter ends
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="parent", daemon=True).start()
