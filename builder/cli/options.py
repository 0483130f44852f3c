"""Arguments and options that several commands share, and the build that they describe."""

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

if TYPE_CHECKING:
    from builder.pipeline import Build

DEFAULT_RECIPE = Path(__file__).parents[1] / "recipes" / "promotions.toml"
RUNS, ARTIFACTS, CACHE = Path("var/runs"), Path("var/artifacts"), "embedded:"

CACHE_VARIABLE = "ABSORB_CACHE_URL"

RecipePath = Annotated[Path, typer.Argument(help="recipe (TOML); see builder/recipes/")]
Runs = Annotated[Path, typer.Option("--runs", envvar="ABSORB_RUNS_DIR", help="folder of all runs")]
Artifacts = Annotated[
    Path,
    typer.Option(
        "--artifacts",
        envvar="ABSORB_ARTIFACT_DIR",
        help="folder of all artifacts; the service reads it",
    ),
]
CacheUrl = Annotated[
    str,
    typer.Option("--cache", envvar=CACHE_VARIABLE, help=escape("embedded:[folder] or a redis URL")),
]
DeviceName = Annotated[
    str | None,
    typer.Option(
        "--device", help="auto, cpu or cuda; default: the recipe's `train.device`", metavar="NAME"
    ),
]
PreparedFolder = Annotated[
    Path | None, typer.Option("--prepared", help="folder that `absorb prepare` wrote")
]
Minutes = Annotated[
    float, typer.Option(min=0, help="with --prepared: time after which training stops; 0: no limit")
]
WithoutTombstones = Annotated[
    bool,
    typer.Option(
        "--without-tombstones",
        help="do not ask the cache who is forgotten; the model may be trained on forgotten users",
    ),
]
Force = Annotated[
    bool,
    typer.Option(
        "--force", help="publish a model that the gate refuses; steps.json and gate.md say so"
    ),
]
DEVICES = ("auto", "cpu", "cuda")


def make_build(
    recipe: Path,
    runs: Path = RUNS,
    artifacts: Path = ARTIFACTS,
    cache: str | None = None,
    device: str | None = None,
    *,
    reads_tombstones: bool = True,
) -> "Build":
    """The build of a recipe file, in the run folder of the recipe's name.

    Args:
        recipe: file.
        runs: folder of all runs.
        artifacts: folder of all artifacts.
        cache: URL; None: of a command that does not publish, and only asks the cache who is forgotten.
        device: in place of the recipe's; None: the recipe's.
        reads_tombstones: whether it does ask.
    """
    from builder.pipeline import Build  # not before a command runs: it imports torch
    from builder.recipe.recipe import load_recipe
    from builder.run_folder import RunFolder

    loaded = load_recipe(recipe)
    if device is not None:
        if device not in DEVICES:
            expected = f"got {device!r}, expected one of: {', '.join(DEVICES)}"
            raise typer.BadParameter(expected, param_hint="--device")
        rule = replace(loaded.train, device=device)  # type: ignore[arg-type]
        loaded = replace(loaded, train=rule)
    url = cache if cache is not None else os.environ.get(CACHE_VARIABLE, CACHE)
    folder = RunFolder(runs / loaded.name)
    return Build(loaded, folder, artifacts, url, reads_tombstones=reads_tombstones)
