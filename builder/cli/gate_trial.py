"""`absorb gate-trial`: plants bad models and good ones, and says what the promotion gate makes of them."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from builder.cli.catalogue import EXPERIMENTS
from builder.cli.options import RecipePath
from builder.cli.progress_bar import bar, console
from models.command_line import EXIT_CODES

if TYPE_CHECKING:
    from builder.experiments.gate_trial.spread import Row
    from builder.recipe.gate import GateRule

app = typer.Typer()


@app.command(
    "gate-trial",
    rich_help_panel=EXPERIMENTS,
    epilog=f"Example: absorb gate-trial builder/recipes/tiny.toml\n\n{EXIT_CODES}",
)
def gate_trial(  # noqa: PLR0913 - options of a command
    recipe: RecipePath,
    seeds: Annotated[int, typer.Option(min=1, help="trainings of the recipe itself")] = 3,
    steps: Annotated[
        int, typer.Option(min=0, help="of trainings on damaged logs; 0: the recipe's")
    ] = 0,
    warm: Annotated[
        bool, typer.Option("--warm", help="these go on from the serving model, as one bad night")
    ] = False,
    slates: Annotated[int, typer.Option(min=0, help="that the gate compares; 0: the recipe's")] = 0,
    spread: Annotated[
        Path | None,
        typer.Option(help="folder of finished trainings of `absorb compare`: measures the margins"),
    ] = None,
    label: Annotated[str, typer.Option(help="with --spread: the variant that serves")] = "",
    folder: Annotated[Path, typer.Option(help="folder of trainings and verdicts")] = Path(
        "var/gate-trial"
    ),
    out: Annotated[
        Path | None, typer.Option(help="folder of page and numbers; default: the trial's folder")
    ] = None,
    tables_only: Annotated[
        bool, typer.Option("--tables-only", help="train and compare nothing")
    ] = False,
) -> None:
    """Plant bad models, and good ones, and put each through the promotion gate against a model that serves.

    Labels are shuffled, fields and histories leak, vocabularies are stale, trainings stop early, odds are off by two,
    inputs are lost at serving; the same model again, other seeds and the next night's warm start must pass. Every
    training and every verdict is a file: a trial that was stopped goes on.

    With --spread it also says how much seeds differ, how often a good retrain is refused, and which losses are refused.
    """
    from builder.experiments.gate_trial.run import Trial
    from builder.experiments.gate_trial.text import write_trial
    from builder.recipe.recipe import load_recipe

    loaded = load_recipe(recipe)
    rule, place = loaded.gate, folder / loaded.name
    rows = [] if spread is None else _rows(spread, label, rule)
    if slates:
        loaded = replace(loaded, gate=replace(rule, slates=slates))
    trial = Trial(loaded, place, seeds, steps, warm)
    if not tables_only:
        with bar("gate-trial", has_estimate=False) as progress:
            for _ in replace(trial, progress=progress).run():
                pass
    options = f" --steps {steps}" * bool(steps) + " --warm" * warm
    options += f" --slates {slates}" * bool(slates)
    command = f"absorb gate-trial {recipe} --seeds {seeds}{options}"
    written = write_trial(trial, rows, rule.slates, command, out or place)
    console.print(*written, sep="\n", soft_wrap=True)


def _rows(folder: Path, label: str, rule: "GateRule") -> "list[Row]":
    from builder.experiments.gate_trial.spread import read_trainings, spread

    trainings = read_trainings(folder)
    if label not in trainings:
        expected = f"got {label!r}, expected one of: {', '.join(trainings)}"
        raise typer.BadParameter(expected, param_hint="--label")
    return spread(trainings, label, rule)
