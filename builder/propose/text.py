"""Recipe values with a comment each -> TOML."""

import json
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from builder.ingest.columns import toml_key

WIDTH = 120
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


@dataclass(frozen=True)
class Line:
    """A key, its value and why it has it. Without a key: a comment of its own."""

    key: str
    value: Any
    why: str


def comment(why: str) -> Line:
    """A comment without a key."""
    return Line("", None, why)


def toml(value: Any) -> str:
    """A value as TOML writes it: texts, numbers, booleans, lists, and tables in one line."""
    if isinstance(value, Mapping):
        inner = ", ".join(f"{toml_key(str(key))} = {toml(one)}" for key, one in value.items())
        return f"{{ {inner} }}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
    return json.dumps(value)


def section(name: str, lines: Sequence[Line]) -> str:
    """A table; its head is left out for the top level."""
    head = [f"[{name}]"] if name else []
    return "\n".join([*head, *(text for line in lines for text in _written(line))])


def _written(line: Line) -> list[str]:
    """A key with its comment behind it, or before it where both do not fit into one line."""
    why = UNPRINTABLE.sub(" ", line.why).strip()
    wrapped = textwrap.wrap(
        why, WIDTH, initial_indent="# ", subsequent_indent="# ", break_long_words=False
    )
    if not line.key:
        return wrapped
    pair = f"{line.key} = {toml(line.value)}"
    both = f"{pair:<35} # {why}" if why else pair
    return [both] if len(both) <= WIDTH else [*wrapped, pair]
