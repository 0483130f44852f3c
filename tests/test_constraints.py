"""What is installed is what was pinned, and every file that may be installed has its hash on a list."""

import hashlib
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import distributions
from pathlib import Path

import pytest

from requirements.lock import cpu_hashes, read_blocks, requirements

ROOT = Path(__file__).parents[1]
PINS = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;]+)", re.M)
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")
LISTS = sorted((ROOT / "requirements").glob("*.txt"))
each_list = pytest.mark.parametrize("path", LISTS, ids=lambda path: path.stem)


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins_of(path: Path) -> dict[str, str]:
    return {canonical(name): version for name, version in PINS.findall(path.read_text())}


PINNED = pins_of(ROOT / "constraints.txt")


def test_installed_versions_are_those_of_the_constraints() -> None:
    installed = {
        canonical(one.metadata["Name"]): one.version.split("+")[0] for one in distributions()
    }
    assert len(PINNED.keys() & installed.keys()) > 50
    different = {
        name: (installed[name], version)
        for name, version in PINNED.items()
        if name in installed and installed[name] != version
    }
    assert different == {}


def test_each_extra_has_a_list_and_each_list_an_origin() -> None:
    wanted = requirements(tomllib.loads((ROOT / "pyproject.toml").read_text()))
    assert {path.stem for path in LISTS} == {*wanted, "torch-cpu", "torch-gpu"}


@each_list
def test_lists_have_the_versions_of_the_constraints(path: Path) -> None:
    pins = pins_of(path)
    assert pins
    assert {name: (v, PINNED.get(name)) for name, v in pins.items() if PINNED.get(name) != v} == {}


def test_every_constraint_is_on_a_list() -> None:
    assert PINNED.keys() - {name for path in LISTS for name in pins_of(path)} == set()


@each_list
def test_every_package_of_a_list_has_hashes(path: Path) -> None:
    blocks = read_blocks(path.read_text())
    for package, block in blocks.items():
        first, *rest = re.split(r" \\\n    ", block)
        assert PINS.match(first), package
        assert rest, package
        assert all(HASH.fullmatch(one) for one in rest), package


@each_list
def test_what_pyproject_names_is_on_its_list(path: Path) -> None:
    """Nothing is left for pip to look for: it gets --no-deps."""
    wanted = requirements(tomllib.loads((ROOT / "pyproject.toml").read_text())).get(path.stem, [])
    named = {canonical(re.split(r"[^\w.-]", one)[0]) for one in wanted} - {"torch"}
    assert named - pins_of(path).keys() - pins_of(ROOT / "requirements/base.txt").keys() == set()


def test_no_command_takes_packages_from_a_second_index() -> None:
    files = [ROOT / "Makefile", *(ROOT / "docker").rglob("*"), *(ROOT / ".ci").iterdir(), *LISTS]
    texts = {path: path.read_text() for path in files if path.is_file()}
    assert [path for path, text in texts.items() if "extra-index-url" in text] == []


def wheel(folder: Path, text: str) -> Path:
    """A package of one module."""
    folder.mkdir()
    info = "toy-1.0.dist-info"
    with zipfile.ZipFile(folder / "toy-1.0-py3-none-any.whl", "w") as file:
        file.writestr("toy.py", text)
        file.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
        file.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(
            f"{info}/RECORD", f"toy.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n"
        )
    return folder / "toy-1.0-py3-none-any.whl"


def install(tmp_path: Path, folder: Path, lines: str) -> subprocess.CompletedProcess[str]:
    """Install from a folder with the options of `make setup`."""
    (options,) = re.findall(r"^CHECKED := (.*)$", (ROOT / "Makefile").read_text(), re.M)
    (tmp_path / "list.txt").write_text(lines)
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        *options.split(),
        "--target",
        tmp_path / "to",
    ]
    return subprocess.run(
        [*command, "--no-index", "--find-links", folder, "--requirement", tmp_path / "list.txt"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_package_is_installed_only_if_its_file_is_the_listed_one(tmp_path: Path) -> None:
    good = wheel(tmp_path / "good", "answer = 42")
    wheel(tmp_path / "bad", "answer = 'stolen'")
    line = f"toy==1.0 --hash=sha256:{hashlib.sha256(good.read_bytes()).hexdigest()}"

    refused = install(tmp_path, tmp_path / "bad", line)
    assert refused.returncode == 1
    assert "DO NOT MATCH THE HASHES" in refused.stderr
    unlisted = install(tmp_path, tmp_path / "good", "toy==1.0")
    assert unlisted.returncode == 1
    assert "all requirements must have their versions pinned with ==" in unlisted.stderr or (
        "Hashes are required" in unlisted.stderr
    )
    assert not (tmp_path / "to").exists()

    done = install(tmp_path, tmp_path / "good", line)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "to" / "toy.py").read_text() == "answer = 42"


def test_the_hashes_of_the_cpu_builds_are_read_from_the_page_of_an_index() -> None:
    names = [
        "torch-2.13.0%2Bcpu-cp311-cp311-manylinux_2_28_x86_64.whl",
        "torch-2.13.0%2Bcpu-cp313-cp313-manylinux_2_28_aarch64.whl",
        "torch-2.13.0-cp312-cp312-macosx_14_0_arm64.whl",
        "torch-2.13.0%2Bcpu-cp311-cp311-win_amd64.whl",
        "torch-2.13.0%2Bcpu-cp310-cp310-manylinux_2_28_x86_64.whl",
        "torch-2.12.9%2Bcpu-cp311-cp311-manylinux_2_28_x86_64.whl",
        "torch-2.13.0%2Bcu130-cp311-cp311-manylinux_2_28_x86_64.whl",
    ]
    page = "\n".join(
        f'<a data-core-metadata="x" href="/whl/cpu/{name}#sha256={at:064x}">{name}</a><br/>'
        for at, name in enumerate(names)
    )
    assert cpu_hashes(page, "2.13.0") == [f"--hash=sha256:{at:064x}" for at in range(3)]
    assert cpu_hashes("<html></html>", "2.13.0") == []
