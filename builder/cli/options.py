"""Arguments and options that several commands share, and the build that they describe."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

if TYPE_CHECKING:
    from builder.pipeline import Build

DEFAULT_RECIPE = Path(__file__).parents[1] / "recipes" / "promotions.toml"
RUNS, ARTIFACTS, CACHE = Path("var/runs"), Path("var/artifacts"), "embedded:"

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
    typer.Option(
        "--cache", envvar="ABSORB_CACHE_URL", help=escape("embedded:[folder] or a redis URL")
    ),
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
DEVICES = ("auto", "cpu", "cuda")


def make_build(
    recipe: Path,
    runs: Path = RUNS,
    artifacts: Path = ARTIFACTS,
    cache: str = CACHE,
    device: str | None = None,
) -> "Build":
    """The build of a recipe file, in the run folder of the recipe's name."""
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
    return Build(loaded, RunFolder(runs / loaded.name), artifacts, cache)
