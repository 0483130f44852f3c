"""A proxy to the cache that stalls at a chosen command: it keeps a builder inside a step that takes milliseconds."""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.e2e.deadline import wait_until

CHUNK_BYTES = 1 << 13
"""Two records of the tiny model: what goes through with the first one is a small part of a generation."""


class Gate:
    """A unix socket that forwards everything to another one, until a client sends `marker`.

    What comes with the marker still goes through. From then on that connection is slow, or dead: then the
    cache's answer is held back, too. Others are not touched, so a builder's lock goes on being renewed.
    """

    def __init__(
        self, path: Path, target: Path, marker: bytes, pause_s: float | None = None
    ) -> None:
        """Listen.

        Args:
            path: path of the socket.
            target: the cache's.
            marker: bytes of the command to wait for.
            pause_s: between two chunks from the marker on; None: the connection is dead.
        """
        self.url = f"unix://{path}"
        self._target = target
        self._marker = marker
        self._pause_s = pause_s
        self._shut = threading.Event()
        self._open = threading.Event()
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen()
        self._sockets: list[socket.socket] = [self._server]
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def wait_until_shut(self) -> None:
        """Until the cache has done what came with the marker."""
        wait_until(self._shut.is_set, f"{self._marker!r} on the way to the cache")

    def open(self) -> None:
        """Let everything through, at once."""
        self._open.set()

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, name="gate")
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
            if is_held.is_set():
                self._open.wait(self._pause_s)
            last = chunk[1 - len(self._marker) :]
        _hang_up(server)

    def _pass_answers(
        self, server: socket.socket, client: socket.socket, is_held: threading.Event
    ) -> None:
        while chunk := _receive(server):
            if is_held.is_set():
                self._shut.set()
                if self._pause_s is None:
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
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
