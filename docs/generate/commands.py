"""Reference of the commands: `absorb`, by panel, and the targets of the Makefile."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.cli.catalogue import COMMANDS as BUILDER
from docs.generate.markdown import code, table
from loadtest.catalogue import COMMANDS as LOADTEST
from models.command_line import EXIT_CODES, Command, load
from service.tools.catalogue import COMMANDS as SERVICE

ROOT = Path(__file__).parents[2]
CATALOGUE: tuple[Command, ...] = (*BUILDER, *SERVICE, *LOADTEST)
MAKEFILE = ROOT / "Makefile"
TARGET = re.compile(r"^([a-z-]+):.*?## (.+)$", re.M)
MARKUP = re.compile(r"\\(?=\[)|\[/?(?:bold|dim|italic|green|red|cyan|yellow)\]")
INTRODUCTION = """# Commands

`absorb COMMAND --help` says the same. `make` prepares the environment by itself; `absorb` is in it
(`.venv/bin/absorb`). `python -m builder COMMAND` and `python -m service` work as well.

Exit codes, unless a command lists others: 0 done, 1 the command failed and says why, 2 wrong usage.

This page is generated from the code and from the Makefile.

"""
MAKE = """## make

Variables: `RECIPE=path` for `make build`, `ARGS="…"` for targets that pass options on.

"""


@dataclass(frozen=True)
class Shown:
    """One command of the page.

    Attributes:
        words: what is typed, with the program.
        command: as Typer makes it. Any: Typer's own copy of click has the same attributes as click.
    """

    words: str
    command: Any


def make_targets() -> list[tuple[str, str]]:
    """Name and help text of every target of the Makefile."""
    return TARGET.findall(MAKEFILE.read_text())


def walk(words: str, command: Any) -> Iterator[Shown]:
    """A command, and those that are in it."""
    if command.hidden:
        return
    yield Shown(words, command)
    for name, inner in getattr(command, "commands", {}).items():
        yield from walk(f"{words} {name}", inner)


def page() -> str:
    """The page, as Markdown."""
    parts = [INTRODUCTION]
    for panel in dict.fromkeys(command.panel for command in CATALOGUE):
        parts.append(f"## {panel}\n\n")
        parts += [_command(command) for command in CATALOGUE if command.panel == panel]
    targets = [(code(f"make {name}"), text) for name, text in make_targets()]
    return "".join([*parts, MAKE, table(["command", "what it does"], targets)])


def _command(command: Command) -> str:
    words = f"absorb {command.name}"
    needs = f"Needs the extras {command.extras}.\n\n" if command.extras else ""
    return "".join(_section(shown, needs) for shown in walk(words, load(command)))


def _section(shown: Shown, needs: str) -> str:
    text = [f"### `{shown.words}`\n\n", plain(shown.command.help or ""), "\n\n", needs]
    rows = [_row(parameter) for parameter in shown.command.params if not _is_hidden(parameter)]
    if rows:
        text += [table(["option", "default", "meaning"], rows), "\n"]
    if shown.command.epilog:
        text += [plain(shown.command.epilog.replace(EXIT_CODES, "")), "\n\n"]
    return "".join(text)


def _is_hidden(parameter: Any) -> bool:
    return bool(getattr(parameter, "hidden", False)) or parameter.name == "help"


def _row(parameter: Any) -> tuple[str, str, str]:
    is_argument = parameter.param_type_name == "argument"
    name = (parameter.name or "").upper() if is_argument else ", ".join(parameter.opts)
    value = parameter.default
    default = "" if callable(value) or value is None else code(_shown(str(value)))
    if parameter.required:
        default = "required"
    meaning = plain(getattr(parameter, "help", "") or "")
    variable = getattr(parameter, "envvar", None)
    if variable:
        meaning = f"{meaning}; environment: `{variable}`"
    return code(name), default, meaning


def _shown(default: str) -> str:
    """A default without the path of this checkout."""
    return default.replace(f"{ROOT}/", "")


def plain(text: str) -> str:
    """Help text without rich's markup and click's marks."""
    return MARKUP.sub("", text.replace("\b", "")).strip()
