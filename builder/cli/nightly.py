"""The nightly job on the command line: all steps that are due, one step, or a publish with an older artifact."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from builder.cli.catalogue import NIGHTLY, RECOVER, STEPS
from builder.cli.options import (
    ARTIFACTS,
    CACHE,
    DEFAULT_RECIPE,
    RUNS,
    Artifacts,
    CacheUrl,
    DeviceName,
    Force,
    Minutes,
    PreparedFolder,
    RecipePath,
    Runs,
    WithoutTombstones,
    make_build,
)
from builder.cli.progress_bar import bar, console
from builder.cli.run_log import run_log
from models.command_line import EXIT_CODES

if TYPE_CHECKING:
    from builder.pipeline import Build

app = typer.Typer()
GATE_EXIT_CODES = f"{EXIT_CODES.removesuffix('.')}, 3 the promotion gate refused the new model."
RedoFrom = Annotated[
    str | None, typer.Option("--from", help="run this step and all later steps again")
]


@app.command(
    "build",
    rich_help_panel=NIGHTLY,
    epilog=f"Example: absorb build builder/recipes/tiny.toml --from train\n\n{GATE_EXIT_CODES}",
)
@app.command("run", rich_help_panel=NIGHTLY, help="The same as `build`.")
def build(
    recipe: RecipePath = DEFAULT_RECIPE,
    redo_from: RedoFrom = None,
    runs: Runs = RUNS,
    artifacts: Artifacts = ARTIFACTS,
    cache: CacheUrl = CACHE,
    without_tombstones: WithoutTombstones = False,
    force: Force = False,
) -> None:
    """Do every step that is due, and print the results: the nightly job.

    A step is due if its recipe sections, its input files or the steps before it changed, or if its output is gone.
    At the end, the command waits until every running service serves the generation (`publish.wait_s`), also if nothing
    was due; if one of them does not, the command fails and names it. If the gate refuses the new model, the exit code
    is 3, the old one serves on, and nothing was written to the cache.
    """
    from builder.cli.steps import do_due_steps
    from builder.cli.tables import quality_table, run_summary
    from builder.recipe.audit import exception_lines

    if redo_from is not None and redo_from not in STEPS:
        expected = f"got {redo_from!r}, expected one of: {', '.join(STEPS)}"
        raise typer.BadParameter(expected, param_hint="--from")
    made = make_build(recipe, runs, artifacts, cache, reads_tombstones=not without_tombstones)
    made = replace(made, is_forced=force)
    with made.folder.locked(), run_log(made.folder):
        if redo_from:
            made.folder.forget(list(STEPS)[list(STEPS).index(redo_from) :])
        do_due_steps(made)
        stamps = made.folder.stamps()
    console.print(quality_table(stamps["evaluate"].result))
    for line in exception_lines(made.recipe.audit):
        console.print(f"[yellow]{escape(line)}[/]", highlight=False, soft_wrap=True)
    console.print(run_summary(made.recipe, stamps), highlight=False, soft_wrap=True, markup=False)
    console.print(f"  details     {made.folder.path}", highlight=False, soft_wrap=True)
    _confirm(made, stamps["publish"].result["name"])


def _confirm(build: "Build", generation: str) -> None:
    """Wait until the running services serve what was published."""
    from builder.cli.served import confirm_served, print_default
    from builder.publish.cache import connect_cache

    recipe = build.recipe
    client = connect_cache(build.cache_url)
    print_default(client)
    confirm_served(client, recipe.serve_as, generation, recipe.publish.wait_s)


def _run_alone(made: "Build", step: str) -> None:
    """Do one step while no other builder works in the folder."""
    from builder.cli.steps import do_step

    with made.folder.locked(), run_log(made.folder):
        do_step(made, step)


def _add_step(name: str, summary: str) -> None:
    def step(
        recipe: RecipePath = DEFAULT_RECIPE,
        runs: Runs = RUNS,
        artifacts: Artifacts = ARTIFACTS,
        cache: CacheUrl = CACHE,
    ) -> None:
        made = make_build(recipe, runs, artifacts, cache)
        _run_alone(made, name)
        if name == "publish":
            _confirm(made, made.folder.stamps()[name].result["name"])

    step.__doc__ = summary
    example = f"Example: absorb {name} builder/recipes/tiny.toml"
    app.command(name, rich_help_panel=NIGHTLY, epilog=f"{example}\n\n{EXIT_CODES}")(step)


for _name, _summary in STEPS.items():
    if _name not in (
        "ingest",
        "audit",
        "train",
        "gate",
    ):  # options of their own: audit.py, and below
        _add_step(_name, _summary)


@app.command(
    rich_help_panel=NIGHTLY,
    epilog=f"Example: absorb ingest builder/recipes/tiny.toml\n\n{EXIT_CODES}",
)
def ingest(
    recipe: RecipePath = DEFAULT_RECIPE,
    runs: Runs = RUNS,
    artifacts: Artifacts = ARTIFACTS,
    cache: CacheUrl = CACHE,
    without_tombstones: WithoutTombstones = False,
) -> None:
    """Read, check and index the recipe's event log, without the events of forgotten users (`absorb forget`)."""
    made = make_build(recipe, runs, artifacts, cache, reads_tombstones=not without_tombstones)
    _run_alone(made, "ingest")


@app.command(
    rich_help_panel=NIGHTLY,
    epilog=f"Example: absorb gate builder/recipes/tiny.toml\n\n{GATE_EXIT_CODES}",
)
def gate(
    recipe: RecipePath = DEFAULT_RECIPE,
    runs: Runs = RUNS,
    artifacts: Artifacts = ARTIFACTS,
    cache: CacheUrl = CACHE,
    force: Force = False,
) -> None:
    """Compare the exported model with the serving one on the newest days; a worse one is refused with exit code 3.

    Margins are keys of the recipe's section `gate`. The run's folder gets gate.md, gate.json and gate.png. With
    --force a refused model counts as passed, and `absorb publish` publishes it.
    """
    made = replace(make_build(recipe, runs, artifacts, cache), is_forced=force)
    _run_alone(made, "gate")


@app.command(
    rich_help_panel=NIGHTLY,
    epilog=f"Example: absorb train builder/recipes/tiny.toml --device cpu\n\n{EXIT_CODES}",
)
def train(
    recipe: RecipePath = DEFAULT_RECIPE,
    device: DeviceName = None,
    prepared: PreparedFolder = None,
    out: Annotated[Path, typer.Option(help="with --prepared: folder of the checkpoint")] = Path(
        "var/checkpoint"
    ),
    minutes: Minutes = 0.0,
    runs: Runs = RUNS,
    artifacts: Artifacts = ARTIFACTS,
    cache: CacheUrl = CACHE,
) -> None:
    """Train the recipe's model on the ingested log, until it stops learning.

    A training that was interrupted goes on from its last validation. With --prepared, the model of a folder that
    `absorb prepare` wrote is trained, and its checkpoint is written to --out; `python -m builder.cli.prepared train`
    does the same where only torch, numpy and safetensors are installed.
    """
    if prepared is not None:
        from builder.cli.prepared import train_prepared
        from builder.prepared import Prepared

        found = Prepared.load(prepared).on(device or "auto")
        with bar("train") as progress:
            console.print(train_prepared(found, out, progress, minutes=minutes), soft_wrap=True)
        return
    made = make_build(recipe, runs, artifacts, cache, device)
    _run_alone(made, "train")


@app.command(
    rich_help_panel=RECOVER,
    epilog="Example: absorb republish builder/recipes/tiny.toml 0123456789abcdef0123456789abcdef\n\n"
    + EXIT_CODES,
)
def republish(
    recipe: RecipePath,
    artifact: Annotated[str, typer.Argument(help="id of an artifact in the folder of artifacts")],
    runs: Runs = RUNS,
    artifacts: Artifacts = ARTIFACTS,
    cache: CacheUrl = CACHE,
) -> None:
    """Encode every user of the ingested log with an older artifact, and publish the records.

    For cases in which `rollback` cannot help: after a publish in place, or to go back by more than one generation.
    """
    from builder.pipeline import republish as publish_again

    made = make_build(recipe, runs, artifacts, cache)
    with made.folder.locked(), run_log(made.folder), bar("publish") as progress:
        name = publish_again(replace(made, progress=progress), artifact)["name"]
    line = f"{made.recipe.serve_as}: {name} is published (artifact {artifact})"
    console.print(line, markup=False, highlight=False, soft_wrap=True)
    _confirm(made, name)
