"""The file tree with one line per file: the first line of a module's docstring, or a file's first comment."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from docs.generate.markdown import code, first_line, table

ROOT = Path(__file__).parents[2]
FOLDERS = ("models", "builder", "service", "loadtest", "docker", "docs/generate")
SUFFIXES = frozenset({".py", ".toml", ".proto", ".yml", ".Dockerfile", ".json"})
UNCOMMENTED = {
    "dashboard.json": "Grafana dashboard of the service.",
    "dashboards.yml": "Where Grafana finds its dashboards.",
    "datasources/prometheus.yml": "Where Grafana finds Prometheus.",
    "prometheus/prometheus.yml": "What Prometheus scrapes, and its alerts.",
    "model-settings.json": "MLServer's settings of the model.",
}
"""Files that say nothing of themselves: end of the path -> what it is for."""
GENERATED = re.compile(r"_pb2\.pyi?$")
INTRODUCTION = """# File tree

One line per file: the first line of its docstring or its first comment. Tests mirror the packages in `tests/`.
The folders are the architecture: `builder` and `service` import `models` and never each other, and
import-linter checks it.

This page is generated.

"""


def page() -> str:
    """The page, as Markdown."""
    return INTRODUCTION + "".join(_folder(ROOT / name) for name in FOLDERS)


def listed_files(folder: Path) -> list[Path]:
    """Files of a folder that the tree shows, without those of its subfolders."""
    return [
        path
        for path in sorted(folder.iterdir())
        if path.is_file()
        and path.suffix in SUFFIXES
        and path.name not in ("__init__.py", "package-lock.json")
        and not GENERATED.search(path.name)
    ]


def _folder(folder: Path) -> str:
    name = folder.relative_to(ROOT).as_posix()
    package = folder / "__init__.py"
    purpose = description(package) if package.exists() else ""
    rows = [(code(path.name), description(path)) for path in listed_files(folder)]
    level = min(2 + name.count("/"), 4)
    text = f"{'#' * level} {name}/\n\n" + (f"{purpose}\n\n" if purpose else "")
    text += table(["file", "what it is for"], rows) + "\n" if rows else ""
    return text + "".join(_folder(inner) for inner in _subfolders(folder))


def _subfolders(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.name.startswith(("_", ".")) and path.name != "results":
            yield path


def description(path: Path) -> str:
    """What a file says of itself in its first line; empty if it says nothing."""
    text = path.read_text()
    if path.suffix == ".py":
        return first_line(ast.get_docstring(ast.parse(text)))
    line = text.lstrip().splitlines()[0] if text.strip() else ""
    if line.startswith(("#", "//")):
        return line.lstrip("#/ ").strip()
    known = (said for end, said in UNCOMMENTED.items() if path.as_posix().endswith(f"/{end}"))
    return next(known, "")
