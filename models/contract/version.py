"""The project's version: one number, in pyproject.toml."""

import tomllib
from importlib import metadata
from pathlib import Path

DISTRIBUTION = "absorb"
UNKNOWN = "unknown"
ROOT = Path(__file__).parents[2]
"""The folder that holds the packages: a clone of the project, or a folder of installed packages."""


def package_version() -> str:
    """Version of this code; "unknown" where the packages were only copied: neither installed nor in a clone.

    A clone's pyproject.toml comes first: the metadata of an editable install is as old as the last `pip install`.
    """
    if checkout() is not None:
        return str(_project(ROOT)["version"])
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return UNKNOWN


def checkout() -> Path | None:
    """The clone of this project that the code runs from; None where the packages are installed or copied."""
    return ROOT if _project(ROOT).get("name") == DISTRIBUTION else None


def _project(folder: Path) -> dict[str, object]:
    """Table `project` of the folder's pyproject.toml; empty where there is no such file."""
    try:
        text = (folder / "pyproject.toml").read_text()
    except OSError:
        return {}
    project: dict[str, object] = tomllib.loads(text).get("project", {})
    return project
