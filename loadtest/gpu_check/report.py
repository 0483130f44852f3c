"""What the check found: one JSON file that grows row by row, so that a part that is cut short leaves what it had."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILE = "gpu_check.json"
Row = Mapping[str, Any]


class NotRunError(Exception):
    """A part, or a line of one, cannot run on this machine; the message says why."""


class Report:
    """One part's share of the file."""

    def __init__(self, folder: Path, part: str) -> None:
        """Begin the part anew: what an earlier run left of it is removed.

        Args:
            folder: of the file; made if absent.
            part: its name.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._path, self._part = folder / FILE, part
        self._found: dict[str, Any] = {"status": "cut short", "tables": {}, "notes": []}
        self._save()

    def add(self, table: str, row: Row) -> None:
        """Append a row to one of the part's tables."""
        self._found["tables"].setdefault(table, []).append(dict(row))
        self._save()

    def note(self, text: str) -> None:
        """Say something that is no row: what did not run and why, which libraries were loaded."""
        self._found["notes"].append(text)
        print(f"  note: {text}", flush=True)
        self._save()

    def end(self, status: str, seconds: float) -> None:
        """Close the part and print its tables."""
        self._found |= {"status": status, "seconds": round(seconds, 1)}
        self._save()
        print(f"== {self._part}: {status}, {seconds:.1f} s", flush=True)
        for name, rows in self._found["tables"].items():
            print(f"-- {name}\n{as_text(rows)}", flush=True)

    def _save(self) -> None:
        whole = read(self._path.parent)
        whole.setdefault("parts", {})[self._part] = self._found
        staged = self._path.with_suffix(".staged")
        staged.write_text(json.dumps(whole, indent=1))
        os.replace(staged, self._path)


def read(folder: Path) -> dict[str, Any]:
    """The file's content; empty if there is none."""
    path = folder / FILE
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def as_text(rows: list[dict[str, Any]]) -> str:
    """Rows in columns; a column is any key that some row has."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [names, *([_shown(row.get(name)) for name in names] for row in rows)]
    widths = [max(len(line[at]) for line in cells) for at in range(len(names))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    )


def _shown(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    return str(value)
