"""The flip happens, and the connection breaks before the builder reads the answer."""

import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from builder.publish import cache
from builder.publish.blue_green import publish
from builder.publish.cache import connect_cache
from builder.publish.generations import read_pointer
from models.contract.errors import CacheUnavailableError
from models.contract.generation import Pointer, lock_key
from tests.builder.published import (
    SPEC,
    assert_only,
    assert_whole,
    generation_of,
    publish_new,
    records,
)

FLIP_MARK = b"flags=allow-oom"
"""Only the script that flips the pointer has it."""


class Relay:
    """Passes bytes between a client and a server. Instead of the first answer to a flip, closes the connection.

    Attributes:
        path: socket that it listens on.
        num_lost: answers that it did not pass on.
    """

    def __init__(self, folder: Path, server: Path) -> None:
        self.path = folder / "relay.sock"
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
            is_flip = threading.Event()
            self._start(self._pass_answers, server, client, is_flip)
            try:
                while request := client.recv(1 << 20):
                    if FLIP_MARK in request:
                        is_flip.set()
                    server.sendall(request)
            except OSError:  # the other direction has ended
                return

    def _pass_answers(
        self, server: socket.socket, client: socket.socket, is_flip: threading.Event
    ) -> None:
        try:
            while answer := server.recv(1 << 20):
                if is_flip.is_set() and not self.num_lost:
                    self.num_lost += 1
                    client.shutdown(socket.SHUT_RDWR)
                    return
                client.sendall(answer)
        except OSError:
            return


@pytest.fixture
def relay(server: Path) -> Iterator[Relay]:
    folder = Path(tempfile.mkdtemp(prefix="ab", dir="/tmp"))  # unix socket paths must be short
    relay = Relay(folder, server / "valkey.sock")
    yield relay
    relay.close()
    shutil.rmtree(folder)


def test_a_flip_whose_answer_is_lost_keeps_the_records_that_serve(client, relay, monkeypatch):
    old = publish_new(client)
    generation = generation_of(30)
    monkeypatch.setattr(cache, "NUM_RETRIES", 0)

    with (
        connect_cache(f"unix://{relay.path}") as broken,
        pytest.raises(CacheUnavailableError, match=str(relay.path)),
    ):
        publish(broken, generation, records(30), SPEC)

    assert relay.num_lost == 1
    assert read_pointer(client, "lrea")[0] == Pointer(generation, old.current)
    assert_whole(client, generation)
    assert_whole(client, old.current)
    client.delete(lock_key("lrea"))  # in case its release was lost too
    assert_only(client, publish_new(client))


def test_a_flip_whose_answer_is_lost_is_sent_again(client, relay):
    old = publish_new(client)
    generation = generation_of(30)

    with connect_cache(f"unix://{relay.path}") as broken:
        pointer = publish(broken, generation, records(30), SPEC)

    assert (relay.num_lost, pointer) == (1, Pointer(generation, old.current))
    assert_only(client, pointer)
