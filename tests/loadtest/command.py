"""Runs a command of the load generator in this process."""

import typer


def run(app: typer.Typer, *words: object) -> int:
    """Exit code of a command line."""
    try:
        app([str(word) for word in words], prog_name="loadtest")
    except SystemExit as end:
        return int(end.code or 0)
    return 0
