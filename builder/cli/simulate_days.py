"""`absorb simulate-days`: what a retrain, a warm start and folding are worth, day after day."""

from pathlib import Path
from typing import Annotated

import typer

from builder.cli.catalogue import EXPERIMENTS
from builder.cli.options import RecipePath
from builder.cli.progress_bar import bar, console
from models.command_line import EXIT_CODES

app = typer.Typer()
DAYS = Path("var/days")


@app.command(
    "simulate-days",
    rich_help_panel=EXPERIMENTS,
    epilog=f"Example: absorb simulate-days builder/recipes/tiny.toml --days 5 --slates 32\n\n{EXIT_CODES}",
)
def simulate_days(  # noqa: PLR0913 - options of a command
    recipe: RecipePath,
    days: Annotated[int, typer.Option(min=1, help="days after the recipe's test_from")] = 10,
    seeds: Annotated[int, typer.Option(min=1, help="trainings of each generation")] = 3,
    steps: Annotated[int, typer.Option(min=0, help="of a full training; 0: the recipe's")] = 0,
    warm_steps: Annotated[int, typer.Option(min=1, help="of a warm start")] = 100,
    full_every: Annotated[int, typer.Option(min=1, help="nights between full retrains")] = 1,
    validate_days: Annotated[float, typer.Option(min=0.0, help="validation before each cut")] = 2.0,
    slates: Annotated[int, typer.Option(min=1, help="scored each day")] = 256,
    folder: Annotated[Path, typer.Option(help="folder of trainings and scores")] = DAYS,
    out: Annotated[
        Path | None, typer.Option(help="folder of page and plot; default: the scores' folder")
    ] = None,
    tables_only: Annotated[
        bool, typer.Option("--tables-only", help="train and score nothing")
    ] = False,
) -> None:
    """Simulate nights: train on the log up to a cut, score the next day under several policies.

    Policies: a full retrain every night, a warm start every night, no retrain with states that follow events, and no
    retrain with the states of the first night; for the first seed also the steps between. No training reads an event of
    the day that is scored. Every training and every scored day is a file: a simulation that was stopped goes on.
    """
    from builder.experiments.days.generations import Protocol
    from builder.experiments.days.run import Run, Simulation
    from builder.experiments.days.text import write_days
    from builder.recipe.recipe import load_recipe

    loaded = load_recipe(recipe)
    place = folder / loaded.name
    results = place / "scores"
    if not tables_only:
        last = days - 1
        full = [night for night in range(1, days) if (last - night) % full_every == 0]
        protocol = Protocol(steps, warm_steps, full, validate_days)
        own = Simulation(
            loaded,
            days,
            range(seeds),
            protocol,
            slates,
            place / "trainings",
            results,
        )
        with bar("simulate-days", has_estimate=False) as progress:
            run = Run(own, progress)
            run.train()
            run.score()
    command = (
        f"absorb simulate-days {recipe} --days {days} --seeds {seeds} --steps {steps} --warm-steps {warm_steps} "
        f"--full-every {full_every} --validate-days {validate_days:g} --slates {slates}"
    )
    written = write_days(results, out or place, command)
    console.print(*written, sep="\n", soft_wrap=True)
