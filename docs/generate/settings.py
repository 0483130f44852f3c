"""Reference of the service's settings, from the fields of `Settings` and their docstrings."""

from docs.generate.markdown import code, table
from service.settings import describe_settings

INTRODUCTION = """# Settings

Environment variables of the service, read when it starts. A wrong value stops the start with a message that
names the variable. The builder reads `ABSORB_CACHE_URL`, `ABSORB_ARTIFACT_DIR` and `ABSORB_RUNS_DIR` (folder of
all runs, default `var/runs`).

This page is generated from `service/settings.py`.

"""


def page() -> str:
    """The page, as Markdown."""
    rows = [
        (code(variable), default if default == "unset" else code(default), meaning)
        for variable, default, meaning in describe_settings()
    ]
    return INTRODUCTION + table(["variable", "default", "meaning"], rows)
