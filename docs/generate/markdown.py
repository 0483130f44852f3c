"""Tables in Markdown."""

import inspect
from collections.abc import Iterable, Sequence


def cell(text: str) -> str:
    """One line of text that cannot break a table."""
    return " ".join(text.split()).replace("|", "\\|")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; cells may be any text."""
    lines = [f"| {' | '.join(head)} |", "|" + " --- |" * len(head)]
    lines += [f"| {' | '.join(cell(text) for text in row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def code(text: str) -> str:
    """Inline code; empty text stays empty."""
    return f"`{text}`" if text else ""


def first_line(docstring: str | None) -> str:
    """First line of a docstring; empty if there is none."""
    return inspect.cleandoc(docstring).splitlines()[0] if docstring else ""
