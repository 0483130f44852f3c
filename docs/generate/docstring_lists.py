"""griffe extension: puts the blank line before lists in docstrings that Markdown needs and the code omits."""

import re
from typing import Any

import griffe

LIST_ITEM = re.compile(r"^\s*- ")


def with_blank_lines(text: str) -> str:
    """The text with a blank line before each list that follows a line of prose ending in a colon."""
    lines: list[str] = []
    for line in text.split("\n"):
        if LIST_ITEM.match(line) and lines and lines[-1].endswith(":"):
            lines.append("")
        lines.append(line)
    return "\n".join(lines)


class ListsInDocstrings(griffe.Extension):
    """Rewrites every docstring that mkdocstrings shows."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for each module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = with_blank_lines(obj.docstring.value)
