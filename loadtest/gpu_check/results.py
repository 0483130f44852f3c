"""The results of the check: one JSON file that grows row by row, so that a part that is cut short keeps its rows."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILE = "gpu_check.json"
CUT_SHORT = "cut short"
DIGITS = 6
"""Significant digits of numbers in the file."""
Row = Mapping[str, Any]


class NotRunError(Exception):
    """A part, or one measurement, cannot run on this machine; the message gives the reason."""


class Results:
    """One part's section of the file."""

    def __init__(self, folder: Path, part: str) -> None:
        """Begin the section; an earlier run's section of the same part is replaced.

        Args:
            folder: folder of the file; created if missing.
            part: name of the part.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._path, self._part = folder / FILE, part
        self._section: dict[str, Any] = {"status": CUT_SHORT, "tables": {}, "notes": []}
        self._save()

    def add(self, table: str, row: Row) -> None:
        """Append a row to one of the part's tables."""
        rounded = {name: _rounded(value) for name, value in row.items()}
        self._section["tables"].setdefault(table, []).append(rounded)
        self._save()

    def note(self, text: str) -> None:
        """Add a sentence, for example what did not run and why."""
        self._section["notes"].append(text)
        print(f"  note: {text}", flush=True)
        self._save()

    def end(self, status: str, seconds: float) -> None:
        """Close the section and print its tables."""
        self._section |= {"status": status, "seconds": round(seconds, 1)}
        self._save()
        print(f"== {self._part}: {status}, {seconds:.1f} s", flush=True)
        for name, rows in self._section["tables"].items():
            print(f"-- {name}\n{as_text(rows)}", flush=True)

    def _save(self) -> None:
        content = read_results(self._path.parent)
        content.setdefault("parts", {})[self._part] = self._section
        write_results(self._path.parent, content)


def read_results(folder: Path) -> dict[str, Any]:
    """Content of the file in a folder; empty if there is none."""
    path = folder / FILE
    content: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return content


def write_results(folder: Path, content: Mapping[str, Any]) -> None:
    """Replace the file in one step: a reader never sees half of it."""
    staged = folder / f"{FILE}.staged"
    staged.write_text(json.dumps(content, indent=1))
    os.replace(staged, folder / FILE)


def as_text(rows: list[dict[str, Any]]) -> str:
    """Rows in aligned columns, one column for each key that any row has."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names, *([_shown(row.get(name)) for name in names] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(names))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _rounded(value: object) -> object:
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def _shown(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    return str(value)
