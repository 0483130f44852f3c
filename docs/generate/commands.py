"""Reference of the commands: the command lines of both halves, and the targets of the Makefile."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from builder.cli.main import app as builder_app
from docs.generate.markdown import code, table
from service.__main__ import app as service_app
from service.tools.demo import app as demo_app
from service.tools.keys import app as keys_app
from service.tools.replay import app as replay_app

PROGRAMS = {
    "python -m builder": builder_app,
    "python -m service": service_app,
    "python -m service.tools.demo": demo_app,
    "python -m service.tools.keys": keys_app,
    "python -m service.tools.replay": replay_app,
}
"""What is typed -> its command line."""
MAKEFILE = Path(__file__).parents[2] / "Makefile"
TARGET = re.compile(r"^([a-z]+):.*?## (.+)$", re.M)
MARKUP = re.compile(r"\\(?=\[)|\[/?(?:bold|dim|italic|green|red|cyan|yellow)\]")
INTRODUCTION = """# Commands

`--help` of each command says the same. `make` prepares the environment by itself; the other commands run in it
(`.venv/bin/…`).

This page is generated from the code and from the Makefile.

## make

Variables: `RECIPE=path` for `make build`, `ARGS="…"` for those that pass options on.

"""


@dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        words: what is typed, with the program.
        command: as Typer makes it. Any: Typer's own copy of click has the same attributes as click.
    """

    words: str
    command: Any


def make_targets() -> list[tuple[str, str]]:
    """Name and help text of every target of the Makefile."""
    return TARGET.findall(MAKEFILE.read_text())


def commands() -> Iterator[Command]:
    """Every command, groups before what is in them."""
    for words, app in PROGRAMS.items():
        yield from _walk(words, typer.main.get_command(app))


def _walk(words: str, command: Any) -> Iterator[Command]:
    if command.hidden:
        return
    yield Command(words, command)
    if is_group(command):
        for name, inner in command.commands.items():
            yield from _walk(f"{words} {name}", inner)


def is_group(command: Any) -> bool:
    """Whether a command only holds others."""
    return hasattr(command, "commands")


def page() -> str:
    """The page, as Markdown."""
    targets = table(
        ["command", "what it does"], [(f"`make {name}`", text) for name, text in make_targets()]
    )
    return INTRODUCTION + targets + "\n" + "".join(_section(one) for one in commands())


def _section(one: Command) -> str:
    level = "##" if is_group(one.command) or one.words in PROGRAMS else "###"
    text = [f"{level} `{one.words}`\n\n", plain(one.command.help or ""), "\n\n"]
    rows = [_row(parameter) for parameter in one.command.params if not _is_hidden(parameter)]
    if rows:
        text += [table(["option", "default", "meaning"], rows), "\n"]
    if one.command.epilog:
        text += [plain(one.command.epilog), "\n\n"]
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
    return (
        code(name),
        default,
        meaning + (f" Environment: `{variable}`." if variable else ""),
    )


def _shown(default: str) -> str:
    """A default without the path of this checkout."""
    return default.replace(f"{MAKEFILE.parent}/", "")


def plain(text: str) -> str:
    """Help text without rich's markup and click's marks."""
    return MARKUP.sub("", text.replace("\b", "")).strip()
