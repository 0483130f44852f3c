"""`python -m builder` as a person runs it: a process on a terminal, which tests read and kill."""

import os
import pty
import re
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from builder.run_folder import RunFolder
from tests.e2e.deadline import LIMIT_S

ROOT = Path(__file__).parents[2]
TINY = ROOT / "builder" / "recipes" / "tiny.toml"
NAME = "tiny"
"""Name of the recipe's run folder, and of the model as it is served."""
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True)
class Build:
    """What a builder is started on."""

    recipe: Path
    runs: Path
    artifacts: Path
    cache_url: str

    @property
    def folder(self) -> RunFolder:
        return RunFolder(self.runs / NAME)

    def at(self, cache_url: str) -> "Build":
        """The same, published elsewhere."""
        return replace(self, cache_url=cache_url)

    def run(self, *options: str) -> "Builder":
        """Start `builder run`."""
        folders = ("--runs", str(self.runs), "--artifacts", str(self.artifacts))
        return Builder("run", str(self.recipe), *folders, "--cache", self.cache_url, *options)


class Builder:
    """A builder at work, and what it has shown on its terminal so far.

    On a terminal it draws its progress bars: they say which step it is in, and how far.
    """

    def __init__(self, *arguments: str) -> None:
        # One thread each: on few cores two of torch's threads wait for each other most of the time.
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
        self._screen, terminal = pty.openpty()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "builder", *arguments],
            cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=terminal, stderr=terminal,
        )  # fmt: skip
        os.close(terminal)
        self._raw = b""
        self._shown = (0, "")
        self._reader = threading.Thread(target=self._read, name="read-terminal")
        self._reader.start()

    def _read(self) -> None:
        with suppress(OSError):  # Linux's end of file: the builder has gone, its terminal with it
            while chunk := os.read(self._screen, 65536):
                self._raw += chunk

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def shown(self) -> str:
        """Everything so far, without colours and cursor movements."""
        num_bytes, text = self._shown
        if num_bytes != len(self._raw):
            raw = self._raw
            text = ESCAPES.sub("", raw.decode(errors="replace"))
            self._shown = (len(raw), text)
        return text

    def has_shown(self, pattern: str) -> bool:
        return re.search(pattern, self.shown) is not None

    def is_running(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        """Kill -9. Fails if it had ended before."""
        self._process.kill()
        assert self._process.wait(LIMIT_S) == -signal.SIGKILL, self.shown
        self._reader.join()

    def finish(self) -> int:
        """Let it end; its exit status."""
        status = self._process.wait(LIMIT_S)
        self._reader.join()
        return status

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()
        os.close(self._screen)


def finish(builder: Builder) -> str:
    """Let a builder end well; what it has shown."""
    with builder:
        assert builder.finish() == 0, builder.shown
        return builder.shown
