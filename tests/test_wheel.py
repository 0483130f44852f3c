"""The wheel holds code, nightly recipes and the native library: no experiments' recipes, no results, no tests."""

import os
import platform
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from packaging.tags import sys_tags

from models.command_line import PACKAGES
from models.contract.version import package_version
from service.native.library import open_library

ROOT = Path(__file__).parents[1]
BUILD = (
    "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-index",
    "--no-build-isolation",
)  # fmt: skip


LIBRARY = "service/native/libabsorb_native.so"


def built(folder: Path, environment: Mapping[str, str]) -> zipfile.ZipFile:
    """A wheel of this checkout."""
    command = [sys.executable, *BUILD, "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(command, env={**os.environ, **environment}, check=True)
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """As the images build it."""
    return built(tmp_path_factory.mktemp("wheel"), {})


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


def test_the_wheel_is_for_the_platform_of_the_library_that_it_holds(
    wheel: zipfile.ZipFile, tmp_path: Path
) -> None:
    native = {name for name in wheel.namelist() if name.startswith("service/native/")}
    assert {Path(name).suffix for name in native} == {".py", ".so"}  # no sources
    tag = Path(str(wheel.filename)).stem.split("-", 2)[2]
    assert tag.startswith("py3-none-")
    assert tag.endswith(platform.machine())
    assert tag.removeprefix("py3-none-") in {one.platform for one in sys_tags()}
    assert "Root-Is-Purelib: false" in text_of(wheel, "WHEEL")
    assert open_library(Path(wheel.extract(LIBRARY, tmp_path))).path.is_relative_to(tmp_path)


def test_without_a_compiler_the_wheel_has_no_library_and_is_for_every_platform(
    tmp_path: Path,
) -> None:
    wheel = built(tmp_path, {"CC": str(tmp_path / "no compiler")})
    assert str(wheel.filename).endswith("-py3-none-any.whl")
    assert LIBRARY not in wheel.namelist()
    assert "service/native/library.py" in wheel.namelist()


def test_the_wheel_has_the_command_and_refuses_an_upload(wheel: zipfile.ZipFile) -> None:
    """The name belongs to another project on the public index."""
    assert "absorb = models.command_line:main" in text_of(wheel, "entry_points.txt")
    metadata = text_of(wheel, "METADATA")
    assert f"\nVersion: {package_version()}\n" in metadata
    assert "\nClassifier: Private :: Do Not Upload\n" in metadata
