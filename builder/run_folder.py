"""A run's folder: what each finished step left, under which inputs, and who is building in it.

    var/runs/<recipe name>/
        steps.json      finished steps: fingerprint of all they depend on, seconds, what they report
        events/ checkpoint/ report.json records.bin

A step writes beside its place and is stamped last, so a killed builder leaves finished steps and nothing half-done.
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
        fingerprint: of the recipe's sections, the input files and the steps before that it depends on.
        seconds: it took.
        result: what it reports: JSON's types.
    """

    fingerprint: str
    seconds: float
    result: dict[str, Any] = field(default_factory=dict)


class RunFolder:
    """One recipe's folder."""

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
    def records(self) -> Path:
        """File of every user's packed record."""
        return self.path / "records.bin"

    @property
    def log(self) -> Path:
        """File of the run's log."""
        return self.path / "log.txt"

    @property
    def language(self) -> Path:
        """Folder of field vectors: all recipes share it, since what made a set of vectors is its name."""
        return self.path.parent / ".language"

    def stamps(self) -> dict[str, Stamp]:
        """Finished steps by name; none if the file was not written yet or cannot be read."""
        try:
            found = json.loads((self.path / STEPS_FILE).read_text())
            return {name: Stamp(**stamp) for name, stamp in found.items()}
        except (FileNotFoundError, ValueError, TypeError, AttributeError):
            return {}

    def stamp(self, step: str, stamp: Stamp) -> None:
        """Remember that a step is done."""
        self._write({**self.stamps(), step: stamp})

    def forget(self, steps: list[str]) -> None:
        """Steps to be done again."""
        self._write({name: stamp for name, stamp in self.stamps().items() if name not in steps})

    def _write(self, stamps: dict[str, Stamp]) -> None:
        plain = {name: asdict(stamp) for name, stamp in stamps.items()}
        staged = self.path / f"{STEPS_FILE}.new"
        staged.write_text(json.dumps(plain, indent=1))
        staged.replace(self.path / STEPS_FILE)

    @contextmanager
    def replacing(self, target: Path) -> Iterator[Path]:
        """A path to write to, which takes the place of `target` when the block ends well."""
        staged = target.with_name(f"{target.name}.new")
        _remove(staged)
        yield staged
        _remove(target)
        staged.rename(target)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other builders out; the operating system lets go of the lock of a killed one.

        Raises:
            LockHeldError: another builder is at work here; names it.
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


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
