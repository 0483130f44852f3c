"""`absorb`: lists every command, imports the requested one, and names a missing extra."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from models.command_line import app, installed_commands
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
EXTRAS = (
    "filelock",
    "jaxtyping",
    "lightgbm",
    "locust",
    "matplotlib",
    "onnx",
    "onnxruntime",
    "polars",
    "pyarrow",
    "safetensors",
    "sklearn",
    "torch",
)
WITHOUT_EXTRAS = """
import sys
sys.modules.update(dict.fromkeys(EXTRAS))  # None: an import fails as if the package were not installed
from models.command_line import main
main()
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


def without_extras(*arguments: str) -> tuple[int, str]:
    """Exit code and errors of a command line where only the core dependencies are installed."""
    script = WITHOUT_EXTRAS.replace("EXTRAS", repr(EXTRAS))
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("arguments", "extras"),
    [
        (("build", "builder/recipes/tiny.toml"), "builder, and cpu or gpu"),
        (("bench", "--quick"), "builder, and cpu or gpu"),
        (("plan", "recipe", "builder/recipes/tiny.toml"), "builder, and cpu or gpu"),
        (("serve",), "cpu or gpu"),
    ],
)
def test_a_missing_extra_is_named(arguments: tuple[str, ...], extras: str) -> None:
    """The text must not send users to a package index: there the name belongs to another project."""
    code, text = without_extras(*arguments)

    assert code == 1
    assert text.startswith(f"error: {arguments[0]}: the Python package '")
    assert f"is not installed; expected the extras of this project: {extras}" in text
    assert "pip install" not in text
    assert "Traceback" not in text


@pytest.mark.parametrize(
    "arguments",
    [
        ("status", "--cache", "redis://127.0.0.1:1"),
        ("rollback", "lrea", "--cache", "redis://127.0.0.1:1"),
    ],
)
def test_commands_on_the_cache_need_no_extra(arguments: tuple[str, ...]) -> None:
    code, text = without_extras(*arguments)

    assert code == 1
    assert text.startswith("error: cache redis://127.0.0.1:1: Error 111 connecting")


def test_an_unknown_command_is_a_usage_error_with_a_hint() -> None:
    shown = CliRunner().invoke(app, ["trian"])

    assert shown.exit_code == 2
    assert "Did you mean 'train'" in shown.output


def test_the_version_is_printed() -> None:
    assert CliRunner().invoke(app, ["--version"]).output == f"absorb {package_version()}\n"
