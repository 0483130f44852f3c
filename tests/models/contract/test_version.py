"""The package's version, installed or not."""

import subprocess
import sys
import tomllib
from pathlib import Path

from models.contract.version import package_version

ROOT = Path(__file__).parents[3]
SAY_VERSION = "from models.contract.version import package_version; print(package_version())"


def test_the_installed_version_is_that_of_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert package_version() == project["version"]


def test_code_in_a_folder_that_is_not_installed_has_a_version_too() -> None:
    # -S: without site-packages, so without any installed distribution.
    command = [sys.executable, "-S", "-c", SAY_VERSION]
    done = subprocess.run(command, cwd=ROOT, env={}, capture_output=True, text=True, check=True)
    assert done.stdout == "unknown\n"
