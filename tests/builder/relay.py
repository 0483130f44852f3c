"""A connection to the cache that breaks at a chosen moment."""

import socket
import threading
from collections.abc import Callable
from pathlib import Path


class Relay:
    """Passes bytes between a client and a server. Instead of one answer, it closes the connection.

    Attributes:
        path: socket that it listens on.
        is_lost: whether the answer to these request bytes is the one to lose.
        num_lost: answers that it did not pass on, at most one.
    """

    def __init__(self, folder: Path, server: Path) -> None:
        self.path = folder / "relay.sock"
        self.is_lost: Callable[[bytes], bool] = lambda request: False
        self.num_lost = 0
        self._server = server
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen()
        self._start(self._accept)

    def close(self) -> None:
        self._listener.close()

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        threading.Thread(target=work, args=arguments, daemon=True).start()

    def _accept(self) -> None:
        try:
            while True:
                client, _ = self._listener.accept()
                self._start(self._serve, client)
        except OSError:  # closed
            return

    def _serve(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server:
            server.connect(str(self._server))
            loses = threading.Event()
            self._start(self._pass_answers, server, client, loses)
            try:
                while request := client.recv(1 << 20):
                    if self.is_lost(request):
                        loses.set()
                    server.sendall(request)
            except OSError:  # the other direction has ended
                return

    def _pass_answers(
        self, server: socket.socket, client: socket.socket, loses: threading.Event
    ) -> None:
        try:
            while answer := server.recv(1 << 20):
                if loses.is_set() and not self.num_lost:
                    self.num_lost += 1
                    client.shutdown(socket.SHUT_RDWR)
                    return
                client.sendall(answer)
        except OSError:
            return
