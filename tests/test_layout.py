"""Sizes, names, and the file tree of the documentation: what reviews would have to look for otherwise."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from beartype.roar import BeartypeException
from jaxtyping import TypeCheckError

from docs.generate import tree
from models.batch import Slate

ROOT = Path(__file__).parent.parent
PACKAGES = ("models", "builder", "service", "loadtest")
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 50
KERNELS = ROOT / "service" / "runtime" / "engines" / "torch" / "kernels.py"
SOURCES = sorted(path for package in (*PACKAGES, "docs") for path in (ROOT / package).rglob("*.py"))

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


def test_there_are_sources() -> None:
    assert len(SOURCES) > 20


@each_source
def test_a_file_is_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_FILE_LINES


@each_source
def test_a_function_is_short(path: Path) -> None:
    if path == KERNELS:
        pytest.skip("a kernel is one function: its arguments alone are 40 lines")
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


@pytest.mark.parametrize("package", [*PACKAGES, "docs/generate"])
def test_every_file_of_a_package_is_in_the_tree_of_the_site(package: str) -> None:
    page = tree.page()
    sources = [path for path in (ROOT / package).rglob("*.py") if path.name != "__init__.py"]
    own = [path for path in sources if not tree.GENERATED.search(path.name)]
    missing = [path for path in own if f"\n| `{path.name}` | " not in page]
    assert own
    assert missing == []


def test_every_file_of_the_tree_says_what_it_is_for() -> None:
    rows = re.findall(r"^\| `([\w.-]+)` \| (.*) \|$", tree.page(), re.M)
    assert len(rows) > 200
    assert [name for name, text in rows if not text.strip()] == []


def test_what_git_tracks_is_small() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False, text=True
    )
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    large = [path.name for path in paths if path.is_file() and path.stat().st_size > 1 << 20]
    assert large == []


def test_a_wrong_shape_is_an_error_in_tests() -> None:
    Slate.of(torch.zeros(2, 3, dtype=torch.int64))
    with pytest.raises((TypeCheckError, BeartypeException)):
        Slate.of(torch.zeros(2, dtype=torch.int64))
    with pytest.raises((TypeCheckError, BeartypeException)):
        Slate.of(torch.zeros(2, 3))
