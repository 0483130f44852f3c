"""Sizes, names, the README's tree and its settings: what reviews would have to look for otherwise."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from beartype.roar import BeartypeException
from jaxtyping import TypeCheckError

from models.batch import Slate
from service.settings import Settings

ROOT = Path(__file__).parent.parent
PACKAGES = ("models", "builder", "service", "loadtest")
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 50
README = ROOT / "README.md"
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

each_source = pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def lines_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function, its docstring not counted."""
    first = function.body[0]
    is_documented = ast.get_docstring(function, clean=False) is not None
    documented = (first.end_lineno or 0) - first.lineno + 1 if is_documented else 0
    return (function.end_lineno or 0) - function.lineno + 1 - documented


def tree(text: str) -> list[str]:
    """Paths in the file tree of a README: its code block that has a line for `models/`.

    Folders end in a slash, and what is indented further lies in them. A line may name several files, each after two
    spaces; what is further away is a description.
    """
    for block in re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S):
        paths = list(_paths(block))
        if "models/" in paths:
            return paths
    raise AssertionError("no code block with the file tree")


def _paths(block: str) -> Iterator[str]:
    folders: list[tuple[int, str]] = []
    for line in filter(str.strip, re.sub("[├└│─]", " ", block).splitlines()):
        indent = len(line) - len(line.lstrip())
        while folders and folders[-1][0] >= indent:
            folders.pop()
        names = re.match(r"\S+(?:  ?\S+\.\w+(?= |$))*", line.strip())
        for name in names.group().split() if names else ():
            path = (folders[-1][1] if folders else "") + name
            yield path
            if name.endswith("/"):
                folders.append((indent, path))


def test_there_are_sources() -> None:
    assert len(SOURCES) > 20


@each_source
def test_a_file_is_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_FILE_LINES


@each_source
def test_a_function_is_short(path: Path) -> None:
    long = {f.name: n for f in functions(path) if (n := lines_of(f)) > MAX_FUNCTION_LINES}
    assert long == {}


@each_source
def test_a_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


@each_source
def test_nothing_is_unpickled(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"\bimport (pickle|joblib|cloudpickle|dill)\b", text)
    assert not re.search(r"\btorch\.load\b|allow_pickle=True|\bread_pickle\b", text)


@each_source
def test_names_say_what_things_are(path: Path) -> None:
    assert not re.search(r"util|manager|common", path.stem)


def test_a_tree_is_read_as_it_is_meant() -> None:
    text = "```\nmake demo\n```\n```\nmodels/        both halves. See base.py\n  a.py  b.py   one and two\n"
    text += "  deep/  more\n    c_d.py   three.\nMakefile    index\n.ci/run  calls make\n```\n"
    expected = ["models/", "models/a.py", "models/b.py", "models/deep/", "models/deep/c_d.py"]
    assert tree(text) == [*expected, "Makefile", ".ci/run"]


def test_the_readmes_tree_lists_what_exists() -> None:
    missing = [path for path in tree(README.read_text()) if not list(ROOT.glob(path.rstrip("/")))]
    assert missing == []


@pytest.mark.parametrize("package", PACKAGES)
def test_every_file_of_a_package_is_in_the_readmes_tree(package: str) -> None:
    listed = {
        str(found.relative_to(ROOT))
        for path in tree(README.read_text())
        for found in ROOT.glob(path.rstrip("/"))
    }
    there = {
        str(path.relative_to(ROOT))
        for path in (ROOT / package).glob("*.py")
        if path.name != "__init__.py"
    }
    assert there - listed == set()


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_in_the_readmes_table(name: str) -> None:
    rows = re.findall(r"^\| `(ABSORB_\w+)` \|", README.read_text(), re.M)
    assert rows.count(f"ABSORB_{name.upper()}") == 1


def test_the_readmes_table_names_no_other_setting() -> None:
    rows = re.findall(r"^\| `ABSORB_(\w+)` \|", README.read_text(), re.M)
    assert {row.lower() for row in rows} <= set(Settings.model_fields)


def test_what_git_tracks_is_small() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False, text=True
    )
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    large = [path.name for path in paths if path.is_file() and path.stat().st_size > 1 << 20]
    assert large == []


def test_a_wrong_shape_is_an_error_in_tests() -> None:
    Slate(torch.zeros(2, 3, dtype=torch.int64))
    with pytest.raises((TypeCheckError, BeartypeException)):
        Slate(torch.zeros(2, dtype=torch.int64))
    with pytest.raises((TypeCheckError, BeartypeException)):
        Slate(torch.zeros(2, 3))
