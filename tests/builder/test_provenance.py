"""Provenance: a result names the code that made it, never the repository that happens to enclose it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from models.contract.version import package_version

ROOT = Path(__file__).parents[2]
ASK = "from builder.provenance import code_revision; print(code_revision())"
AUTHOR = ("-c", "user.name=a", "-c", "user.email=a@b.c")
COMMIT = (*AUTHOR, "commit", "--quiet", "--allow-empty", "-m", "one")


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def copied(folder: Path, *names: str) -> Path:
    """The packages that `code_revision` needs, and other files of the project, in a folder of their own."""
    folder.mkdir(parents=True)
    for name in ("models", "builder"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in names:
        shutil.copy(ROOT / name, folder / name)
    return folder


def revision_in(folder: Path) -> str:
    command, environment = [sys.executable, "-c", ASK], {"PATH": os.environ["PATH"]}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_a_clone_names_its_commit(tmp_path: Path) -> None:
    clone = copied(tmp_path / "clone", "pyproject.toml")
    git(clone, "init", "--quiet")
    git(clone, *COMMIT)

    assert revision_in(clone) == f"{package_version()}+g{git(clone, 'rev-parse', 'HEAD')[:12]}"


def test_another_projects_repository_is_not_ours(tmp_path: Path) -> None:
    """As in a virtual environment, or a copy of the sources, inside somebody else's repository."""
    git(tmp_path, "init", "--quiet")
    git(tmp_path, *COMMIT)
    head = git(tmp_path, "rev-parse", "HEAD")[:12]

    for name, files in (("installed", ()), ("sources", ("pyproject.toml",))):
        assert head not in revision_in(copied(tmp_path / name, *files))
