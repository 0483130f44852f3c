"""`absorb`: lists every command, imports the one that is asked for, and says which extra is missing."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from models.command_line import Command, MissingExtraError, app, installed_commands, load
from models.contract.version import package_version

ROOT = Path(__file__).parents[2]
NAMES = [command.name for command in installed_commands()]
FIND_LOADED = """
import sys
from models.command_line import app
try:
    app(prog_name="absorb")
except SystemExit as left:
    assert not left.code, left.code
print("loaded:", sorted({name.partition(".")[0] for name in sys.modules} & set(HEAVY)))
"""
BUILDER = ("polars", "torch", "sklearn", "pyarrow", "matplotlib")
SERVICE = ("fastapi", "uvicorn", "pydantic", "onnxruntime")


def loaded(heavy: tuple[str, ...], *arguments: str) -> str:
    """Which of these packages a command line imports."""
    command = [sys.executable, "-c", FIND_LOADED.replace("HEAVY", repr(heavy)), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def test_all_commands_are_listed() -> None:
    expected = (
        "build ingest train evaluate export precompute publish rollback republish status plan compare scaling llactr "
        "bench serve demo replay keys load chaos peers modes"
    )
    assert set(expected.split()) - set(NAMES) == set()
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "120"})
    assert shown.exit_code == 0
    assert [name for name in NAMES if f" {name} " not in shown.output] == []


@pytest.mark.parametrize("name", NAMES)
def test_every_command_that_is_listed_can_be_loaded(name: str) -> None:
    shown = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "120"})
    assert shown.exit_code == 0
    assert "sage: " in shown.output  # argparse writes "usage", Typer "Usage"


def test_a_list_of_commands_imports_none_of_them() -> None:
    assert loaded((*BUILDER, *SERVICE), "--help") == "loaded: []"


def test_the_services_command_needs_nothing_of_the_builder() -> None:
    assert loaded(BUILDER, "serve", "--help") == "loaded: []"


def test_the_builders_commands_need_nothing_of_the_service() -> None:
    assert loaded((*BUILDER, "fastapi", "uvicorn"), "build", "--help") == "loaded: []"


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The text must not send anybody to an index: the name belongs to another project there."""
    (tmp_path / "digging.py").write_text("import no_such_package\n")
    monkeypatch.syspath_prepend(tmp_path)
    command = Command("dig", "Nightly", "Dig.", "digging", "builder")
    with pytest.raises(MissingExtraError) as caught:
        load(command)

    assert "dig: the Python package 'no_such_package' is not installed" in str(caught.value)
    assert "extras of this project: builder" in str(caught.value)
    assert "pip install" not in str(caught.value)


def test_an_unknown_command_is_a_usage_error_with_a_hint() -> None:
    shown = CliRunner().invoke(app, ["trian"])

    assert shown.exit_code == 2
    assert "Did you mean 'train'" in shown.output


def test_the_version_is_printed() -> None:
    assert CliRunner().invoke(app, ["--version"]).output == f"absorb {package_version()}\n"
