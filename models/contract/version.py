"""The version of this package: pyproject.toml is the only place that states it."""

from importlib import metadata

DISTRIBUTION = "absorb"
UNKNOWN = "unknown"


def package_version() -> str:
    """The installed version; `unknown` where the code runs from a folder and is not installed."""
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return UNKNOWN
