"""Starts a server, waits until it scores, and stops it with all processes below it."""

import os
import shlex
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

from loadtest.peers.environments import PeerError, bin_of
from loadtest.peers.paths import HERE, ROOT, WORK
from loadtest.peers.queries import Query
from loadtest.peers.servers import Server
from loadtest.peers.wire_formats import http_request

START_LIMIT_S = 120.0
START_TRIES = 2
"""On a busy machine Ray and PyTriton give up after 30 s or less."""
STOP_LIMIT_S = 15.0
LOOK_EVERY_S = 0.2
LOG_TAIL_LINES = 5


@contextmanager
def running(server: Server, workers: int, probe: Query) -> Iterator[int]:
    """Start a server, wait until it scores, and stop it at the end.

    Args:
        server: the server.
        workers: number of its workers.
        probe: query that it must answer with status 200.

    Yields:
        The port on which it listens.

    Raises:
        PeerError: the server ends, or does not score in time.
    """
    for tries_left in range(START_TRIES - 1, -1, -1):
        process, port = _launch(server, workers)
        try:
            _wait_until_it_scores(server, process, port, probe)
            break
        except PeerError:
            _stop(process)
            if not tries_left:
                raise
        except BaseException:
            _stop(process)
            raise
    try:
        yield port
    finally:
        _stop(process)


def _launch(server: Server, workers: int) -> tuple["subprocess.Popen[bytes]", int]:
    folder = WORK / server.name
    folder.mkdir(parents=True, exist_ok=True)
    port = _free_ports()
    words = {"port": port, "port1": port + 1, "port2": port + 2, "workers": workers}
    paths = {"bin": bin_of(server), "here": HERE / server.name, "work": folder}
    command = [word.format(**words, **paths) for word in shlex.split(server.command)]
    variables = {name: value.format(**words, **paths) for name, value in server.environment.items()}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **variables}
    with (folder / "server.log").open("wb") as log:
        try:
            process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        except OSError as error:
            raise PeerError(f"start: {error}") from error
    return process, port


def _wait_until_it_scores(
    server: Server, process: "subprocess.Popen[bytes]", port: int, probe: Query
) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    raw = http_request(server.routes[0], "127.0.0.1", probe)
    body = raw.partition(b"\r\n\r\n")[2]
    url = f"http://127.0.0.1:{port}{server.routes[0].path}"
    while (problem := _problem(url, body)) != "":
        if process.poll() is not None or time.monotonic() > deadline:
            raise PeerError(f"start: {problem}; its log ends with {_tail(server)!r}")
        time.sleep(LOOK_EVERY_S)


def _problem(url: str, body: bytes) -> str:
    """The reason why the server does not score yet; empty once it does."""
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10):
            return ""
    except urllib.error.HTTPError as error:
        with error:
            return f"status {error.code}: {error.read()[:200]!r}"
    except OSError as error:
        return str(error)


def _tail(server: Server) -> str:
    text = (WORK / server.name / "server.log").read_text(errors="replace")
    return "\n".join(text.splitlines()[-LOG_TAIL_LINES:])


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """Stop the server and every process below it; some servers start daemons in sessions of their own."""
    try:
        below = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        below = []
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_LIMIT_S)
    if process.poll() is None:
        process.kill()
        process.wait()
    _, alive = psutil.wait_procs(below, timeout=2)
    for child in alive:
        with suppress(psutil.NoSuchProcess):
            child.kill()
    psutil.wait_procs(alive, timeout=STOP_LIMIT_S)


def _free_ports() -> int:
    """The first of three consecutive free ports."""
    while True:
        with socket.socket() as first:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            try:
                for further in (port + 1, port + 2):
                    with socket.socket() as probe:
                        probe.bind(("127.0.0.1", further))
            except OSError:
                continue
            return port
