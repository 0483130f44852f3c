"""Starts the service as a process, for programs that send it HTTP requests: the demo and the load test."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from service.errors import NotReadyError

START_LIMIT_S = 60.0
STOP_LIMIT_S = 45.0
"""Longer than a drain may take."""
LOOK_EVERY_S = 0.1
LOG_TAIL_LINES = 15


@contextmanager
def running_service(log_path: Path) -> Iterator[str]:
    """Start `python -m service` on a free port of this machine, wait until it is ready, and stop it at the end.

    All other settings come from the environment.

    Args:
        log_path: file for the service's log; its folder is created if missing.

    Yields:
        The service's URL, without a trailing slash.

    Raises:
        NotReadyError: the service ends, or is not ready in time; with its last answer or log lines.
    """
    log_path.parent.mkdir(parents=True, exist_ok=True)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {**os.environ, "ABSORB_HOST": "127.0.0.1", "ABSORB_PORT": str(port)}
    # Only this program sends requests, and it has stopped by then.
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
    """A TCP port of this machine that is free now."""
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
    """Why the service is not ready; empty once it is."""
    try:
        answer = httpx.get(f"{url}/health/ready", timeout=5)
    except httpx.TransportError as error:  # not listening yet
        return str(error)
    return "" if answer.is_success else answer.text


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
