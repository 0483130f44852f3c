"""The service as a process of its own, for programs that talk to it over HTTP: the demo and the load test."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.errors import NotReadyError

START_LIMIT_S = 60.0
STOP_LIMIT_S = 45.0
"""Longer than the service drains."""
LOOK_EVERY_S = 0.1
LOG_TAIL_LINES = 15


@contextmanager
def running_service(log_path: Path) -> Iterator[str]:
    """Start `python -m service` on a free port of this machine, wait until it can score, stop it in the end.

    The other settings are those of the environment.

    Args:
        log_path: file for the service's log; its folder is made if absent.

    Yields:
        Its URL, without a slash at the end.

    Raises:
        NotReadyError: it ends or cannot score in time; says what it answered or logged last.
    """
    log_path.parent.mkdir(parents=True, exist_ok=True)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {**os.environ, "ABSORB_HOST": "127.0.0.1", "ABSORB_PORT": str(port)}
    # Nobody else sends anything here.
    environment["ABSORB_DRAIN_DELAY_S"] = "0"
    command = [sys.executable, "-m", "service"]
    with (
        log_path.open("wb") as log,
        subprocess.Popen(command, env=environment, stdout=log, stderr=log) as process,
    ):
        try:
            _wait_until_ready(url, process, log_path)
            yield url
        finally:
            _stop(process)


def free_port() -> int:
    """A TCP port of this machine on which nobody listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_ready(url: str, process: "subprocess.Popen[bytes]", log_path: Path) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while (answer := _ready(url)) != "":
        if process.poll() is not None:
            tail = "\n".join(log_path.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])
            raise NotReadyError(f"the service ended with status {process.returncode}:\n{tail}")
        if time.monotonic() > deadline:
            raise NotReadyError(f"not ready after {START_LIMIT_S:g} s: {answer} (log: {log_path})")
        time.sleep(LOOK_EVERY_S)


def _ready(url: str) -> str:
    """Why the service cannot score yet; empty once it can."""
    try:
        with urllib.request.urlopen(f"{url}/health/ready", timeout=5):
            return ""
    except urllib.error.HTTPError as error:
        with error:
            return error.read().decode(errors="replace")
    except OSError as error:  # not listening yet
        return str(error)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
