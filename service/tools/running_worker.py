"""Starts `absorb follow` as a process, for programs that show or measure what it does."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from models.live.follow_status import FollowStatus, read_statuses
from service.errors import NotReadyError

START_LIMIT_S = 20.0
STOP_LIMIT_S = 20.0
LOOK_EVERY_S = 0.1
LOG_TAIL_LINES = 5


@contextmanager
def running_worker(
    log_path: Path, variables: Mapping[str, str] | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    """Start `python -m service.tools.follow`, and stop it at the end.

    Args:
        log_path: file for the worker's log; its folder is created if missing.
        variables: settings that differ from the environment's.
    """
    log_path.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "service.tools.follow"]
    environment = {**os.environ, **(variables or {})}
    with (
        log_path.open("wb") as log,
        subprocess.Popen(command, env=environment, stdout=log, stderr=log) as process,
    ):
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()


def wait_until_follows(
    cache: Any, model: str, process: "subprocess.Popen[bytes]", log_path: Path
) -> None:
    """Wait until a worker has said, after this call, that it follows a model and is caught up.

    Args:
        cache: a client of the cache, redis-py's. Its errors are not translated.
        model: name of the model.
        process: of the worker.
        log_path: the worker's log.

    Raises:
        NotReadyError: the worker ends, or is not that far in time; with its last log lines.
    """
    began_s, deadline = int(time.time()), time.monotonic() + START_LIMIT_S
    while not any(_follows(raw, model, began_s) for raw in read_statuses(cache)):
        has_ended = process.poll() is not None
        if has_ended or time.monotonic() > deadline:
            what = f"ended with status {process.returncode}" if has_ended else "is not ready"
            tail = "\n".join(log_path.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])
            raise NotReadyError(f"the worker {what} (log: {log_path}):\n{tail}")
        time.sleep(LOOK_EVERY_S)


def _follows(raw: bytes, model: str, began_s: int) -> bool:
    """Whether a status is newer than the call: that of a worker that died stays in the cache for a while."""
    try:
        status = FollowStatus.from_bytes(raw)
    except ValueError:  # of a worker of another version
        return False
    return status.at_s > began_s and status.behind.get(model) == 0
