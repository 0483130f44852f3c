"""Workers as processes that can be killed, stopped and started again."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from loadtest.chaos.process import ROOT


class Workers:
    """Processes of `absorb follow` over one cache."""

    def __init__(self, settings: Mapping[str, str], log_path: Path) -> None:
        """Start none yet.

        Args:
            settings: environment variables: of the cache and of the artifacts.
            log_path: file for the logs of all workers.
        """
        plain = {name: text for name, text in os.environ.items() if not name.startswith("ABSORB_")}
        self._variables = {**plain, **settings, "OMP_NUM_THREADS": "1"}
        self._log_path = log_path
        self._running: list[subprocess.Popen[bytes]] = []

    def launch(self) -> None:
        """Start one more worker."""
        command = [sys.executable, "-m", "service.tools.follow"]
        with self._log_path.open("ab") as log:
            self._running.append(
                subprocess.Popen(command, cwd=ROOT, env=self._variables, stdout=log, stderr=log)
            )

    def kill(self) -> None:
        """SIGKILL the worker that was started first."""
        process = self._running.pop(0)
        process.kill()
        process.wait()

    def pause(self) -> None:
        """SIGSTOP every worker."""
        for process in self._running:
            process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """End a pause."""
        for process in self._running:
            process.send_signal(signal.SIGCONT)

    @property
    def num_running(self) -> int:
        """Workers that have not ended."""
        return sum(process.poll() is None for process in self._running)

    def log(self) -> str:
        """The whole log."""
        return self._log_path.read_text(errors="replace") if self._log_path.exists() else ""

    def close(self) -> None:
        """Kill all."""
        for process in self._running:
            with suppress(ProcessLookupError):
                process.kill()
            process.wait()
