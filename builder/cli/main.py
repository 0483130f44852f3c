"""python -m builder: the offline half as a command line."""

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape

from builder.cli.plan import app as plan_app
from builder.cli.progress_bar import bar as _bar
from builder.cli.progress_bar import console
from builder.cli.tables import (
    comparison_table,
    llactr_table,
    scaling_table,
    status_table,
    summary_table,
)
from builder.experiments.llactr.arms import ARM_NAMES, with_arms
from builder.pipeline import STEPS, Build, is_due, run_step
from builder.publish.cache import connect_cache
from builder.recipe.recipe import Recipe, load_recipe
from builder.run_folder import RunFolder
from models.contract.cache_url import redact_url
from models.contract.errors import AbsorbError, did_you_mean

if TYPE_CHECKING:
    from builder.experiments.compare.table import Comparison

DEFAULT_RECIPE = Path(__file__).parents[1] / "recipes" / "complete-journey.toml"
app = typer.Typer(
    help="Build the cache: an event log becomes a trained model and a published state per user.\n\n"
    "`run` does what is due of: " + ", ".join(STEPS) + ". Each is a command of its own, too.",
    no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False,
)  # fmt: skip

app.add_typer(plan_app, name="plan")

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
Seeds = Annotated[int, typer.Option(min=1, help="trainings of each variant")]
Jobs = Annotated[
    int, typer.Option(min=0, help="trainings at once, one thread each; 0: one per core")
]
Trainings = Annotated[
    Path, typer.Option(help="where finished trainings are kept, in a folder of the recipe's name")
]
Tables = Annotated[
    Path | None,
    typer.Option("--out", help="folder of tables and plots; unset: beside the trainings"),
]
AXES = ("length", "candidates", "rank", "dim")
RUNS, ARTIFACTS, CACHE = Path("var/runs"), Path("var/artifacts"), "embedded:"
COMPARE = Path("var/compare")


def _build(recipe: Path, runs: Path, artifacts: Path, cache: str) -> Build:
    loaded = load_recipe(recipe)
    return Build(loaded, RunFolder(runs / loaded.name), artifacts, cache)


def _do(build: Build, name: str) -> None:
    with _bar(name) as bar:
        stamp = run_step(replace(build, progress=bar), name)
    console.print(f"[green]✓[/] {name} [dim]{stamp.seconds:.1f} s[/]")


@app.command()
def run(
    recipe: RecipePath = DEFAULT_RECIPE,
    redo_from: Annotated[
        str | None, typer.Option("--from", help="do this step and all after it again")
    ] = None,
    runs: Runs = RUNS,
    artifacts: Artifacts = ARTIFACTS,
    cache: CacheUrl = CACHE,
) -> None:
    """Do every step that is due, and print what came of it. The nightly job."""
    if redo_from is not None and redo_from not in STEPS:
        raise typer.BadParameter(
            f"got {redo_from!r}, expected one of: {', '.join(STEPS)}", param_hint="--from"
        )
    build = _build(recipe, runs, artifacts, cache)
    with build.folder.locked():
        if redo_from:
            build.folder.forget(list(STEPS)[list(STEPS).index(redo_from) :])
        for name in STEPS:
            if is_due(build, name):
                _do(build, name)
            else:
                console.print(f"[dim]· {name}: nothing changed, kept[/]")
        console.print(summary_table(build.recipe, build.folder.stamps()))


def _add_step(name: str, summary: str) -> None:
    def step(
        recipe: RecipePath = DEFAULT_RECIPE, runs: Runs = RUNS, artifacts: Artifacts = ARTIFACTS,
        cache: CacheUrl = CACHE,
    ) -> None:  # fmt: skip
        build = _build(recipe, runs, artifacts, cache)
        with build.folder.locked():
            _do(build, name)

    step.__doc__ = summary
    app.command(name)(step)


for _name, _summary in {
    "ingest": "Read, check and index the recipe's event log.",
    "train": "Train the recipe's model on the ingested log.",
    "evaluate": "Measure the trained model on the test period, beside the floors.",
    "export": "Write the artifact: weights and ONNX graphs, compared with torch.",
    "precompute": "Encode every user's history into a record.",
    "publish": "Write the records to the cache, verify them, flip the pointer.",
}.items():
    _add_step(_name, _summary)


@app.command()
def republish(
    recipe: RecipePath,
    artifact: Annotated[str, typer.Argument(help="id of an artifact that is still there")],
    runs: Runs = RUNS,
    artifacts: Artifacts = ARTIFACTS,
    cache: CacheUrl = CACHE,
) -> None:
    """Encode every user of the ingested log with an older artifact, and publish that: back, when `rollback` cannot."""
    from builder.pipeline import republish as publish_again

    build = _build(recipe, runs, artifacts, cache)
    with build.folder.locked(), _bar("publish") as bar:
        name = publish_again(replace(build, progress=bar), artifact)["name"]
    console.print(f"{build.recipe.serve_as}: {name} serves (artifact {artifact})")


@app.command()
def rollback(
    model: Annotated[str, typer.Argument(help="name it is served under, for instance lrea")],
    cache: CacheUrl = CACHE,
) -> None:
    """Make the previous generation serve again; twice returns.

    What a publish in place (`publish.mode = "rolling"`) has overwritten cannot; the error says what can.
    """
    from builder.publish.generations import rollback as flip_back

    pointer = flip_back(connect_cache(cache), model)
    console.print(
        f"{model}: {pointer.current.name} serves again (artifact {pointer.current.artifact_id})"
    )


@app.command()
def status(cache: CacheUrl = CACHE) -> None:
    """What is published, what can be rolled back to, who is building."""
    from builder.publish.status import status as read_status

    console.print(status_table(redact_url(cache), read_status(connect_cache(cache))))


@app.command()
def compare(
    recipe: RecipePath,
    seeds: Seeds = 3,
    jobs: Jobs = 0,
    only: Annotated[
        list[str] | None,
        typer.Option(help="label of a variant to train now; give it several times"),
    ] = None,
    folder: Trainings = COMPARE,
    out: Tables = None,
    runs: Runs = RUNS,
) -> None:
    """Train every `variant` of a recipe on the same data and budget; tables and plots with 95% intervals.

    A `search` in the recipe first tries each learning rate once (or draws `trials` settings) with each variant, and
    chooses by validation AUC. A `sweep` trains a variant with several values of one of its keys.

    Every finished training is a file: stop it whenever you like, and the same command goes on. With --only, variants
    that were trained before are in the tables, too.
    """
    from builder.experiments.compare.cost import find_costs
    from builder.experiments.compare.run import write_comparison

    loaded = load_recipe(recipe)
    labels = [variant.label for variant in loaded.variant]
    for label in only or []:
        if label not in labels:
            hint = (
                f"got {label!r}, expected one of: {', '.join(labels)}{did_you_mean(label, labels)}"
            )
            raise typer.BadParameter(hint, param_hint="--only")
    place = folder / loaded.name
    with (
        _trained(loaded, runs, seeds, jobs, place, only or ()) as (build, found),
        _bar("cost", has_estimate=False) as bar,
    ):
        found = found.with_costs(find_costs(loaded, build.events(), place, bar))
    command = f"python -m builder compare {recipe} --seeds {seeds}"
    written = write_comparison(found, command, out or place)
    console.print(comparison_table(found))
    console.print(*written, sep="\n")


@contextmanager
def _trained(
    recipe: Recipe, runs: Path, seeds: int, jobs: int, place: Path, only: Sequence[str]
) -> Iterator[tuple[Build, "Comparison"]]:
    """A recipe's variants on its ingested log, which no other process changes meanwhile."""
    from builder.experiments.compare.run import run_comparison

    with _ingested(recipe, runs) as build:
        with _bar("train", has_estimate=False) as bar:
            found = run_comparison(build, seeds, jobs, place, bar, only)
        yield build, found


@contextmanager
def _ingested(recipe: Recipe, runs: Path) -> Iterator[Build]:
    """The build of a recipe whose log is ingested, and which no other process changes meanwhile."""
    build = Build(recipe, RunFolder(runs / recipe.name), ARTIFACTS, CACHE)
    with build.folder.locked():
        if is_due(build, "ingest"):
            _do(build, "ingest")
        yield build


@app.command()
def scaling(
    recipe: RecipePath,
    seeds: Seeds = 3,
    jobs: Jobs = 0,
    folder: Trainings = COMPARE,
    out: Tables = None,
    runs: Runs = RUNS,
) -> None:
    """Fit power laws of log loss and 1 − AUC to models of several sizes, and to several amounts of data.

    The recipe's `variant`s are the sizes (suan or light_suan), a `sweep` of "train.share" the amounts of data. The
    largest of each is held out once, and predicted. As with `compare`, what is trained already is kept.
    """
    from builder.experiments.scaling.fit import find_axes
    from builder.experiments.scaling.text import write_scaling

    loaded = load_recipe(recipe)
    place = folder / loaded.name
    with _trained(loaded, runs, seeds, jobs, place, ()) as (build, found):
        axes = find_axes(found, loaded, build.events())
    command = f"python -m builder scaling {recipe} --seeds {seeds}"
    written = write_scaling(axes, found, command, out or place)
    for axis in axes:
        console.print(scaling_table(axis))
    console.print(*written, sep="\n")


@app.command()
def llactr(
    recipe: RecipePath,
    seeds: Seeds = 5,
    jobs: Jobs = 0,
    arm: Annotated[
        list[str] | None,
        typer.Option(
            help="an arm to train beside the base and LLaCTR (repeatable; default: all): "
            + ", ".join(ARM_NAMES[2:])
        ),
    ] = None,
    folder: Trainings = COMPARE,
    out: Tables = None,
    runs: Runs = RUNS,
) -> None:
    """What a language model's field vectors give field models: LLaCTR, its ablations, and controls without language.

    The recipe's `variant`s are the backbones, `language` the model that is asked, `search` the trials that every arm
    gets. As with `compare`, what is trained already is kept, and field vectors are made once.
    """
    from builder.experiments.compare.run import run_comparison
    from builder.experiments.llactr.findings import find
    from builder.experiments.llactr.text import write_findings
    from builder.language.field_vectors import make_vectors

    for name in arm or ():
        if name not in ARM_NAMES:
            known = f"expected one of: {', '.join(ARM_NAMES)}{did_you_mean(name, ARM_NAMES)}"
            hint = f"got {name!r}, {known}"
            raise typer.BadParameter(hint, param_hint="--arm")
    plain = load_recipe(recipe)
    loaded = with_arms(plain, arm or ())
    place = folder / loaded.name
    with _ingested(loaded, runs) as build:
        with _bar("field vectors") as bar:
            language = make_vectors(build.events(), loaded, build.folder, bar).report
        with _bar("train", has_estimate=False) as bar:
            found = run_comparison(build, seeds, jobs, place, bar, is_lean=True)
    options = "".join(f" --arm {name!r}" for name in arm or ())
    command = f"python -m builder llactr {recipe} --seeds {seeds}{options}"
    findings = find(found, [variant.label for variant in plain.variant], language)
    written = write_findings(findings, command, out or place)
    console.print(llactr_table(findings))
    console.print(*written, sep="\n")


@app.command()
def bench(
    out: Annotated[Path, typer.Option(help="folder of table and plot")] = Path("var/bench"),
    quick: Annotated[bool, typer.Option(help="small sizes only, to try it out")] = False,
    axis: Annotated[
        list[str] | None,
        typer.Option(help=f"vary this alone (repeatable): {', '.join(AXES)}; default: all"),
    ] = None,
    training: Annotated[
        bool, typer.Option(help="time training instead: an epoch at L = 1,000, and its profile")
    ] = False,
    suan: Annotated[
        bool, typer.Option(help="time SUAN instead: one by one, packed, and from the cache")
    ] = False,
) -> None:
    """Time scoring against history length L, candidates B, rank r and width d: every model in the same runtime."""
    from builder.experiments.bench.run import run_bench
    from builder.experiments.bench.suan import run_suan_bench
    from builder.experiments.bench.training import run_training_bench
    from builder.provenance import describe_machine

    chosen = [name for name, on in (("--training", training), ("--suan", suan)) if on]
    if len(chosen) + bool(axis) > 1:
        got = [*chosen, *(["--axis"] if axis else [])]
        raise typer.BadParameter(
            f"got {' and '.join(got)}, expected one of them", param_hint=got[-1]
        )
    for name in axis or ():
        if name not in AXES:
            raise typer.BadParameter(
                f"got {name!r}, expected one of: {', '.join(AXES)}", param_hint="--axis"
            )
    options = "".join(f" --axis {name}" for name in axis or ())
    options += " --training" * training + " --suan" * suan + " --quick" * quick
    header = describe_machine(f"python -m builder bench --out {out}{options}")
    with _bar("bench") as bar:
        if training:
            written = run_training_bench(out, bar, header, quick=quick)
        elif suan:
            written = run_suan_bench(out, bar, header, quick=quick)
        else:
            written = run_bench(out, bar, header, quick=quick, axes=axis or ())
    console.print(*written, sep="\n")


def main() -> None:
    """Run; an error of the world is one sentence and exit code 1."""
    handler = RichHandler(console=console, show_path=False, show_time=False, show_level=False)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler])
    for package in ("builder", "models"):  # libraries are heard from WARNING on
        logging.getLogger(package).setLevel(logging.INFO)
    try:
        app()
    except AbsorbError as error:
        Console(stderr=True).print(
            "[red]error:[/]", escape(str(error)), highlight=False, soft_wrap=True
        )
        sys.exit(1)


if __name__ == "__main__":
    main()
