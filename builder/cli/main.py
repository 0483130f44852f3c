"""`python -m builder`: the builder's commands, the same as under `absorb`."""

from typing import NoReturn

import typer

from builder.cli import (
    audit,
    cache,
    experiments,
    forget,
    gate_trial,
    init,
    items,
    nightly,
    plan,
    simulate_days,
)
from models.command_line import EXIT_CODES, Version, run_app

app = typer.Typer(
    help="Build the cache: an event log becomes a trained model and one published record per user.",
    epilog=f"Example: python -m builder build builder/recipes/tiny.toml\n\n{EXIT_CODES}",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback()
def _root(version: Version = False) -> None:
    """Options of the builder itself."""


for _commands in (
    nightly.app,
    init.app,
    audit.app,
    cache.app,
    forget.app,
    items.app,
    experiments.app,
    simulate_days.app,
    gate_trial.app,
):
    app.add_typer(_commands)
app.add_typer(plan.app, name="plan", rich_help_panel=plan.PANEL)


def main() -> NoReturn:
    """Run the builder's command line."""
    run_app(app, "python -m builder")
