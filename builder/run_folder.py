"""A run's folder: outputs of the finished steps, their inputs' fingerprints, the log, and a lock.

    var/runs/<recipe name>/
        steps.json      finished steps: fingerprint of their inputs, seconds, what they report
        log.txt         log of every run
        report.md reliability.png   quality on the test period, for people
        events/ checkpoint/ records.bin histories.bin     outputs
        training/       state of an unfinished training

A step writes to a temporary place, renames it, and is stamped last: a killed builder leaves finished steps only.
"""

import json
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from builder.errors import LockHeldError

STEPS_FILE = "steps.json"


@dataclass(frozen=True)
class Stamp:
    """A finished step.

    Attributes:
        fingerprint: hash of the recipe's sections, the input files and the earlier steps that it depends on.
        seconds: duration.
        result: what the step reports, in JSON types.
    """

    fingerprint: str
    seconds: float
    result: dict[str, Any] = field(default_factory=dict)


class RunFolder:
    """The folder of one recipe's runs."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def events(self) -> Path:
        """Folder of the ingested log."""
        return self.path / "events"

    @property
    def checkpoint(self) -> Path:
        """Folder of the trained model."""
        return self.path / "checkpoint"

    @property
    def training(self) -> Path:
        """Folder of the state of an unfinished training."""
        return self.path / "training"

    @property
    def records(self) -> Path:
        """File of all users' packed records."""
        return self.path / "records.bin"

    @property
    def histories(self) -> Path:
        """File of all users' base histories, in the order of `records`; missing if states cannot follow events."""
        return self.path / "histories.bin"

    @property
    def log(self) -> Path:
        """File of the run's log."""
        return self.path / "log.txt"

    @property
    def language(self) -> Path:
        """Folder of field vectors, shared by all recipes: a set's name is a hash of all that it was made from."""
        return self.path.parent / ".language"

    def stamps(self) -> dict[str, Stamp]:
        """Finished steps by name; empty if the file does not exist or cannot be read."""
        try:
            stamps = json.loads((self.path / STEPS_FILE).read_text())
            return {name: Stamp(**stamp) for name, stamp in stamps.items()}
        except (FileNotFoundError, ValueError, TypeError, AttributeError):
            return {}

    def stamp(self, step: str, stamp: Stamp) -> None:
        """Record that a step is done."""
        self._write({**self.stamps(), step: stamp})

    def forget(self, steps: list[str]) -> None:
        """Remove the stamps of `steps`, so that they become due."""
        self._write({name: stamp for name, stamp in self.stamps().items() if name not in steps})

    def _write(self, stamps: dict[str, Stamp]) -> None:
        plain = {name: asdict(stamp) for name, stamp in stamps.items()}
        staged = self.path / f"{STEPS_FILE}.new"
        staged.write_text(json.dumps(plain, indent=1))
        staged.replace(self.path / STEPS_FILE)

    @contextmanager
    def replacing(self, target: Path) -> Iterator[Path]:
        """Yield a path to write to; it replaces `target` if the block ends without an error."""
        staged = target.with_name(f"{target.name}.new")
        remove(staged)
        yield staged
        remove(target)
        staged.rename(target)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other builders out. The operating system releases the lock of a killed builder.

        Raises:
            LockHeldError: another builder holds the folder; the error names it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        holder = self.path / "holder.txt"
        try:
            with FileLock(self.path / "lock", timeout=0):
                since = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
                holder.write_text(f"{socket.gethostname()} pid {os.getpid()} since {since}")
                yield
        except Timeout as error:
            name = holder.read_text() if holder.exists() else "unknown"
            raise LockHeldError(str(self.path), name) from error


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
