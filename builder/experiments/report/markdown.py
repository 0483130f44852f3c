"""What all reports are written with: Markdown for people, JSON beside it."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table."""
    return [
        "| " + " | ".join(headings) + " |",
        "|" + " --- |" * len(headings),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]


def write_report(out: Path, name: str, text: str, numbers: Mapping[str, Any]) -> list[Path]:
    """Write `name`.md and `name`.json; return their paths.

    Args:
        out: folder, made if absent.
        name: of the files.
        text: Markdown.
        numbers: of JSON's types.
    """
    out.mkdir(parents=True, exist_ok=True)
    table, plain = out / f"{name}.md", out / f"{name}.json"
    table.write_text(text)
    plain.write_text(json.dumps(numbers, indent=1))
    return [table, plain]
