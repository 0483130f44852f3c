"""A way to the cache that a test can shut: what a stalled network does to a builder, at a chosen command."""

import socket
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.e2e.deadline import wait_until

CHUNK_BYTES = 1 << 14
"""About five records of the tiny model: a shut gate has let a part of them through."""


class Gate:
    """A unix socket that passes everything on to another, until `marker` comes by from a client.

    What comes with the marker still goes through, its answer does not, nor does anything after it on that connection.
    Other connections are not touched, so a builder's lock goes on being renewed.
    """

    def __init__(self, path: Path, target: Path, marker: bytes) -> None:
        self.url = f"unix://{path}"
        self._target = target
        self._marker = marker
        self._shut = threading.Event()
        self._open = threading.Event()
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen()
        self._sockets: list[socket.socket] = [self._server]
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def wait_until_shut(self) -> None:
        """Until the marker has come by."""
        wait_until(self._shut.is_set, f"{self._marker!r} on the way to the cache")

    def open(self) -> None:
        """Let everything through, held back or new."""
        self._open.set()

    def _start(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, name="gate")  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:  # closed
                return
            server = socket.socket(socket.AF_UNIX)
            self._sockets += [client, server]
            server.connect(str(self._target))
            is_held = threading.Event()
            self._start(self._pass_commands, client, server, is_held)
            self._start(self._pass_answers, server, client, is_held)

    def _pass_commands(
        self, client: socket.socket, server: socket.socket, is_held: threading.Event
    ) -> None:
        last = b""
        while chunk := _receive(client):
            if self._marker in last + chunk:
                is_held.set()
                _send(server, chunk)
                self._shut.set()
                self._open.wait()
            else:
                _send(server, chunk)
            last = chunk[1 - len(self._marker) :]
        _hang_up(server)

    def _pass_answers(
        self, server: socket.socket, client: socket.socket, is_held: threading.Event
    ) -> None:
        while chunk := _receive(server):
            if is_held.is_set():
                self._open.wait()
            _send(client, chunk)
        _hang_up(client)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.set()
        for end in self._sockets:
            _hang_up(end)
        for thread in self._threads:
            thread.join()
        for end in self._sockets:
            end.close()


def _receive(end: socket.socket) -> bytes:
    try:
        return end.recv(CHUNK_BYTES)
    except OSError:  # the other side was killed
        return b""


def _send(end: socket.socket, chunk: bytes) -> None:
    try:
        end.sendall(chunk)
    except OSError:
        _hang_up(end)


def _hang_up(end: socket.socket) -> None:
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        return
