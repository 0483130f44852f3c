"""The project's version: the clone's pyproject.toml first, then the installed distribution."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from models.contract import version
from models.contract.version import package_version

ROOT = Path(__file__).parents[3]
SAY_VERSION = "from models.contract.version import package_version; print(package_version())"


def said_in(folder: Path) -> str:
    """The version without site-packages (-S), so without any installed distribution."""
    command = [sys.executable, "-S", "-c", SAY_VERSION]
    done = subprocess.run(command, cwd=folder, env={}, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_clones_version_is_that_of_its_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert package_version() == said_in(ROOT) == project["version"]


def test_packages_that_were_only_copied_have_a_version_too(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "models", tmp_path / "models")
    assert said_in(tmp_path) == "unknown"


def test_a_foreign_pyproject_beside_the_packages_is_not_ours(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "other"\nversion = "9.9"\n')
    monkeypatch.setattr(version, "ROOT", tmp_path)

    assert version.checkout() is None
    assert package_version() != "9.9"
