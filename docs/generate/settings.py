"""Reference of the service's settings, from the fields of `Settings` and their docstrings."""

from pathlib import Path
from typing import Any

from docs.generate.markdown import code, table
from service.settings import Settings

INTRODUCTION = """# Settings

Environment variables of the service, read when it starts. A wrong value stops the start with a message that
names the variable. The builder reads `ABSORB_CACHE_URL`, `ABSORB_ARTIFACT_DIR` and `ABSORB_RUNS_DIR` (folder of
all runs, default `var/runs`).

This page is generated from `service/settings.py`.

"""


def variable(name: str) -> str:
    """Name of the environment variable of a field."""
    return f"ABSORB_{name.upper()}"


def shown_default(value: Any) -> str:
    """A default as an operator would write it."""
    if value is None or value == "":
        return "unset"
    if isinstance(value, bool):
        return code(str(value).lower())
    if isinstance(value, Path | str | int | float):
        return code(str(value))
    return code(str(list(value) if isinstance(value, tuple) else value))


def page() -> str:
    """The page, as Markdown."""
    rows = [
        (code(variable(name)), shown_default(field.get_default()), field.description or "")
        for name, field in Settings.model_fields.items()
    ]
    return INTRODUCTION + table(["variable", "default", "meaning"], rows)
