"""The wheel holds the code and the nightly recipes: no experiments' recipes, no results, no tests."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from models.command_line import PACKAGES
from models.contract.version import package_version

ROOT = Path(__file__).parents[1]
BUILD = (
    "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-index",
    "--no-build-isolation",
)  # fmt: skip


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """As the images build it."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, *BUILD, "--wheel-dir", folder, ROOT], check=True)
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def text_of(wheel: zipfile.ZipFile, name: str) -> str:
    (path,) = (path for path in wheel.namelist() if path.endswith(f".dist-info/{name}"))
    return wheel.read(path).decode()


def test_the_wheel_holds_the_packages_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    folders = {name.partition("/")[0] for name in wheel.namelist()}

    assert folders == {*PACKAGES, f"absorb-{package_version()}.dist-info"}
    assert sum(info.compress_size for info in wheel.infolist()) < 2_000_000


def test_the_wheel_holds_the_nightly_recipes_only(wheel: zipfile.ZipFile) -> None:
    recipes = {name for name in wheel.namelist() if name.endswith(".toml")}

    nightly = [*ROOT.glob("builder/recipes/*.toml"), *ROOT.glob("builder/recipes/shared/*.toml")]
    assert recipes == {str(path.relative_to(ROOT)) for path in nightly}


def test_every_module_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    modules = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in ROOT.glob(f"{package}/**/*.py")
    }
    assert modules - set(wheel.namelist()) == set()


def test_the_wheel_has_the_command_and_refuses_an_upload(wheel: zipfile.ZipFile) -> None:
    """The name belongs to another project on the public index."""
    assert "absorb = models.command_line:main" in text_of(wheel, "entry_points.txt")
    metadata = text_of(wheel, "METADATA")
    assert f"\nVersion: {package_version()}\n" in metadata
    assert "\nClassifier: Private :: Do Not Upload\n" in metadata
