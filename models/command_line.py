"""`absorb`: one command for the builder, the service and the load generator.

Each of them lists its commands in a small module that imports nothing else, and pyproject.toml names these modules as
entry points of the group `absorb.commands`. Only the command that the user asks for is imported: `absorb serve` needs
nothing of the builder's extra, `absorb build` nothing of the service.
"""

import importlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from models.contract.errors import AbsorbError
from models.contract.version import DISTRIBUTION, package_version

GROUP = "absorb.commands"
PACKAGES = ("models", "builder", "service", "loadtest")
"""This project's packages. An entry point has the name of its package; the help lists them in this order."""
EXIT_CODES = "Exit codes: 0 done, 1 the command failed and says why, 2 wrong usage."


@dataclass(frozen=True)
class Command:
    """Description of one command of `absorb`. Its module is imported only when the command runs.

    Attributes:
        name: the word after `absorb`.
        panel: heading under which the help lists it.
        summary: one line for the help.
        module: module that holds it.
        extras: extras of pyproject.toml that it needs, in words; empty: the core dependencies are enough.
        attribute: name in the module: a Typer app.
        is_member: the command is the one called `name` in an app of several commands.
    """

    name: str
    panel: str
    summary: str
    module: str
    extras: str = ""
    attribute: str = "app"
    is_member: bool = False


class Absorb(TyperGroup):
    """The commands of all entry points. Listing them imports none of them."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self._requested: Command | None = None
        self.catalogue = {command.name: command for command in installed_commands()}
        for name, command in self.catalogue.items():
            summary = TyperCommand(name, help=command.summary, rich_help_panel=command.panel)
            self.add_command(summary)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The requested command, imported now."""
        name, command, rest = super().resolve_command(ctx, args)
        self._requested = self.catalogue.get(name or "")
        return name, load(self._requested) if self._requested else command, rest

    def invoke(self, ctx: Any) -> Any:
        """Run the requested command.

        Raises:
            MissingExtraError: the command imports a package that is not installed, at its start or when it runs.
        """
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            if self._requested is None or not self._requested.extras or _is_ours(error.name):
                raise
            raise MissingExtraError(self._requested, str(error.name)) from error


def installed_commands() -> Iterator[Command]:
    """Commands of every entry point whose package is installed: an image holds one half, and the metadata of both."""
    entries = metadata.entry_points(group=GROUP)
    for entry in sorted(entries, key=lambda entry: PACKAGES.index(entry.name)):
        try:
            yield from entry.load()
        except ModuleNotFoundError as error:
            if not _is_ours(error.name):
                raise


def load(command: Command) -> TyperCommand | TyperGroup:
    """Import a command.

    Raises:
        ModuleNotFoundError: a package that it needs is not installed.
    """
    target = getattr(importlib.import_module(command.module), command.attribute)
    loaded = get_command(target)
    if command.is_member and isinstance(loaded, TyperGroup):
        loaded = loaded.commands[command.name]
    return loaded  # type: ignore[return-value]  # typer's own type is private


class MissingExtraError(AbsorbError):
    """A command needs a package that is not installed."""

    def __init__(self, command: Command, package: str) -> None:
        super().__init__(
            f"{command.name}: the Python package {package!r} is not installed; expected the extras of this project: "
            f"{command.extras}. Install the clone or the wheel that this command came from again, with them"
        )


def _is_ours(module: str | None) -> bool:
    return (module or "").partition(".")[0] in PACKAGES


def _print_version(is_set: bool) -> bool:
    if is_set:
        typer.echo(f"{DISTRIBUTION} {package_version()}")
        raise typer.Exit
    return is_set


Version = Annotated[
    bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
]  # fmt: skip
app = typer.Typer(
    cls=Absorb,
    help="Rank candidates by a user's whole history: build the cache offline, score from it online.",
    epilog=f"Example: absorb build builder/recipes/tiny.toml\n\n{EXIT_CODES}",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback()
def _root(version: Version = False) -> None:
    """Options of `absorb` itself."""


def run_app(application: typer.Typer, name: str) -> NoReturn:
    """Run a command line; an `AbsorbError` is printed as one sentence, with its exit code (1 for most).

    Args:
        application: the command line to run.
        name: program name in the help.
    """
    try:
        application(prog_name=name)
    except AbsorbError as error:
        text = f"[red]error:[/] {escape(str(error))}"
        Console(stderr=True).print(text, highlight=False, soft_wrap=True)
        sys.exit(error.exit_code)
    sys.exit(0)


def main() -> NoReturn:
    """`absorb`, the console script."""
    run_app(app, "absorb")
