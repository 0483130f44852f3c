"""`python -m builder`: every command explains itself; errors are one sentence and an exit code."""

import re
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from builder.cli.catalogue import COMMANDS
from builder.cli.main import app
from builder.pipeline import STEPS
from models.contract.version import package_version
from tests.builder.cli.conftest import Call

NAMES = [command.name for command in COMMANDS]
BUILDER: Any = get_command(app)
EVERY: dict[str, Any] = BUILDER.commands


def shown(*arguments: str) -> str:
    done = CliRunner().invoke(app, [*arguments, "--help"], env={"COLUMNS": "200"})
    assert done.exit_code == 0
    return done.output


def test_the_catalogue_lists_the_steps_in_order_and_nothing_is_missing() -> None:
    assert [name for name in NAMES if name in STEPS] == list(STEPS)
    assert set(EVERY) == {*NAMES, "run"}


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_a_usage_an_example_and_exit_codes(name: str) -> None:
    text = shown(name)

    assert f"Usage: root {name}" in re.sub(r"\s+", " ", text)
    assert f"Example: absorb {name}" in text
    assert "Exit codes: 0" in text


def test_help_shows_all_that_was_written() -> None:
    """Text in square brackets is markup, unless it is escaped."""
    for name, command in EVERY.items():
        missing = set(re.findall(r"\w+", command.help)) - set(re.findall(r"\w+", shown(name)))
        assert not missing, name


def test_help_says_where_the_embedded_cache_may_be() -> None:
    assert "embedded:[folder]" in shown("build")


def test_help_names_every_command_under_its_panel() -> None:
    text = shown()

    assert [name for name in NAMES if name not in text] == []
    assert [command.panel for command in COMMANDS if command.panel not in text] == []


def test_an_unknown_command_is_a_usage_error(call: Call) -> None:
    finished = call("biuld")

    assert finished.code == 2
    assert "No such command 'biuld'. Did you mean 'build'?" in finished.err


def test_the_version_is_printed(call: Call) -> None:
    assert call("--version").out == f"absorb {package_version()}\n"
