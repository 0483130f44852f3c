"""Comparisons, scaling laws and benchmarks.

This module, `gate_trial.py`, `prepared.py` and `simulate_days.py` alone import `builder.experiments`.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from builder.cli.catalogue import EXPERIMENTS
from builder.cli.options import (
    RUNS,
    DeviceName,
    Minutes,
    PreparedFolder,
    RecipePath,
    Runs,
    make_build,
)
from builder.cli.progress_bar import bar, console
from builder.cli.run_log import run_log
from models.command_line import EXIT_CODES
from models.contract.errors import did_you_mean

if TYPE_CHECKING:
    from builder.experiments.compare.table import Comparison
    from builder.pipeline import Build

Seeds = Annotated[int, typer.Option(min=1, help="trainings of each variant")]
Jobs = Annotated[
    int, typer.Option(min=0, help="trainings at once, one thread each; 0: one per core")
]
Trainings = Annotated[
    Path, typer.Option(help="folder of finished trainings; each recipe has a folder in it")
]
Tables = Annotated[
    Path | None,
    typer.Option("--out", help="folder of tables and plots; default: beside the trainings"),
]
Only = Annotated[
    list[str] | None,
    typer.Option(help="label of a variant to train now (repeatable); default: all"),
]
Arms = Annotated[
    list[str] | None,
    typer.Option(
        help="label of an arm to train beside the base and LLaCTR (repeatable); default: all"
    ),
]
TablesOnly = Annotated[
    bool,
    typer.Option("--tables-only", help="train nothing: tables and plots of what is finished"),
]
WithCosts = Annotated[
    bool,
    typer.Option(
        "--costs", help="time every row's score graph here, also if their times are kept already"
    ),
]
COMPARE = Path("var/compare")

app = typer.Typer()


@app.command(
    rich_help_panel=EXPERIMENTS,
    epilog="Example: absorb compare builder/recipes/experiments/synthetic-compare.toml --seeds 3\n\n"
    + EXIT_CODES,
)
def compare(  # noqa: PLR0913 - options of a command
    recipe: Annotated[
        Path | None, typer.Argument(help="recipe (TOML) with variants; none with --prepared")
    ] = None,
    seeds: Seeds = 3,
    jobs: Jobs = 0,
    only: Only = None,
    folder: Trainings = COMPARE,
    out: Tables = None,
    device: DeviceName = None,
    prepared: PreparedFolder = None,
    minutes: Minutes = 0.0,
    tables_only: TablesOnly = False,
    costs: WithCosts = False,
    runs: Runs = RUNS,
) -> None:
    """Train every `variant` of a recipe on the same data and budget; write tables and plots with 95% intervals.

    A `search` in the recipe first tries each learning rate once (or draws `trials` settings) with each variant, and
    chooses by validation AUC. A `sweep` trains a variant with several values of one of its keys.

    Every finished training is a file: an interrupted comparison goes on where it stopped. With --only, the tables also
    show the variants that were trained before.

    At the end, the score graphs of all rows are timed in ONNX Runtime and their times are kept in `costs.json` of
    --folder. --tables-only shows the times that are kept, and leaves the column blank without them; --costs times all
    rows again, on this machine.

    With --prepared, the variants of a folder that `absorb prepare` wrote are trained, and their outcomes are written to
    --out; tables are then made by `absorb compare RECIPE --folder --tables-only`, with the outcomes in that folder.
    `python -m builder.cli.prepared compare` does the same where only torch, numpy and safetensors are installed.
    """
    if prepared is not None:
        _compare_prepared(prepared, out, device, minutes, jobs, seeds, only or ())
        return
    if recipe is None:
        raise typer.BadParameter("missing, expected a recipe, or --prepared", param_hint="RECIPE")
    from builder.experiments.compare.run import collect_comparison, write_comparison
    from builder.experiments.tables import comparison_table

    build = make_build(recipe, runs, device=device)
    _check(only, [variant.label for variant in build.recipe.variant], "--only")
    place = folder / build.recipe.name
    with _ingested(build):
        if tables_only:
            comparison = collect_comparison(build, seeds, place)
        else:
            comparison = _train(build, seeds, jobs, place, only or ())
        comparison = _with_costs(build, comparison, place, is_due=costs, is_kept=tables_only)
    command = f"absorb compare {recipe} --seeds {seeds}"
    written = write_comparison(comparison, command, out or place)
    console.print(comparison_table(comparison))
    console.print(*written, sep="\n", soft_wrap=True)


def _with_costs(
    build: "Build", comparison: "Comparison", place: Path, *, is_due: bool, is_kept: bool
) -> "Comparison":
    """The comparison with the cost of each row, and the sizes of its records.

    Args:
        build: recipe, and run folder with the ingested log.
        comparison: its rows.
        place: folder where costs and sizes are kept.
        is_due: all rows are timed, whatever is kept.
        is_kept: otherwise only kept costs are shown; if this is off, all rows are timed if one has none.
    """
    from builder.experiments.compare.cost import kept_costs, time_costs
    from builder.experiments.compare.run import served
    from builder.experiments.compare.sizes import with_sizes

    events, rows = build.events(), served(comparison)
    costs = kept_costs(events, place)
    is_missing = any(costs.find(*row) is None for row in rows)
    if rows and (is_due or (is_missing and not is_kept)):
        with bar("cost", has_estimate=False) as progress:
            costs = time_costs(rows, events, place, progress)
    with bar("records", has_estimate=False) as progress:
        sized = with_sizes(comparison, events, place, progress)
    return sized.with_costs(costs)


def _compare_prepared(
    prepared: Path,
    out: Path | None,
    device: str | None,
    minutes: float,
    jobs: int,
    seeds: int,
    only: Sequence[str],
) -> None:
    from builder.cli.prepared import compare_prepared, deadline_in
    from builder.experiments.compare.jobs import Jobs as Plan
    from builder.prepared import Prepared
    from builder.provenance import code_revision

    found = Prepared.load(prepared).on(device or "auto")
    todo = Plan(
        found,
        out or COMPARE / found.recipe.name,
        seeds,
        jobs or os.cpu_count() or 1,
        only,
        deadline_in(minutes),
        revision=code_revision(),
    )
    with bar("train", has_estimate=False) as progress:
        line = compare_prepared(todo, progress)
    console.print(line, soft_wrap=True)


@app.command(
    rich_help_panel=EXPERIMENTS,
    epilog="Example: absorb prepare builder/recipes/experiments/synthetic-compare.toml --out var/prepared\n\n"
    + EXIT_CODES,
)
def prepare(
    recipe: RecipePath,
    out: Annotated[Path, typer.Option(help="folder to write")],
    runs: Runs = RUNS,
) -> None:
    """Write the ingested log and the recipe to a folder from which a machine with torch and numpy alone can train."""
    from builder.experiments.compare.run import prepare as write_plan

    build = make_build(recipe, runs)
    with _ingested(build):
        write_plan(build, out)
    console.print(f"{out}: made of {recipe}", soft_wrap=True)


@contextmanager
def _ingested(build: "Build") -> Iterator[None]:
    """Lock the run folder; ingest and audit the recipe's log where that is due, and say which leaks it allows."""
    from builder.cli.steps import do_step
    from builder.pipeline import is_due
    from builder.recipe.audit import exception_lines

    with build.folder.locked(), run_log(build.folder):
        for step in ("ingest", "audit"):
            if is_due(build, step):
                do_step(build, step)
        yield
    for line in exception_lines(build.recipe.audit):
        console.print(f"[yellow]{escape(line)}[/]", highlight=False, soft_wrap=True)


def _train(
    build: "Build", seeds: int, jobs: int, place: Path, only: Sequence[str] = ()
) -> "Comparison":
    """Train the recipe's variants, those that are not in `place` yet."""
    from builder.experiments.compare.run import run_comparison

    with bar("train", has_estimate=False) as progress:
        return run_comparison(build, seeds, jobs, place, progress, only)


def _check(names: Sequence[str] | None, known: Sequence[str], option: str) -> None:
    """Refuse names that are not known."""
    for name in names or ():
        if name not in known:
            expected = f"expected one of: {', '.join(known)}{did_you_mean(name, known)}"
            raise typer.BadParameter(f"got {name!r}, {expected}", param_hint=option)


@app.command(
    rich_help_panel=EXPERIMENTS,
    epilog="Example: absorb scaling builder/recipes/experiments/complete-journey-scaling.toml\n\n"
    + EXIT_CODES,
)
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
    largest of each is held out once, and predicted. Finished trainings are kept, as with `compare`.
    """
    from builder.experiments.scaling.fit import find_axes
    from builder.experiments.scaling.text import write_scaling
    from builder.experiments.tables import scaling_table

    build = make_build(recipe, runs)
    place = folder / build.recipe.name
    with _ingested(build):
        comparison = _train(build, seeds, jobs, place)
        axes = find_axes(comparison, build.recipe, build.events())
    command = f"absorb scaling {recipe} --seeds {seeds}"
    written = write_scaling(axes, comparison, command, out or place)
    for axis in axes:
        console.print(scaling_table(axis))
    console.print(*written, sep="\n", soft_wrap=True)


@app.command(
    rich_help_panel=EXPERIMENTS,
    epilog="Example: absorb llactr builder/recipes/experiments/movielens-100k-llactr.toml --seeds 5\n\n"
    + EXIT_CODES,
)
def llactr(
    recipe: RecipePath,
    seeds: Seeds = 5,
    jobs: Jobs = 0,
    arm: Arms = None,
    folder: Trainings = COMPARE,
    out: Tables = None,
    runs: Runs = RUNS,
) -> None:
    """Measure what field vectors of a language model give field models: LLaCTR, its ablations, and controls.

    The recipe's `variant`s are the backbones, `language` is the language model, and every arm gets the trials of
    `search`. Finished trainings are kept, as with `compare`, and field vectors are made once.
    """
    from builder.experiments.compare.run import run_comparison
    from builder.experiments.llactr.arms import ARM_NAMES, with_arms
    from builder.experiments.llactr.findings import find
    from builder.experiments.llactr.text import write_findings
    from builder.experiments.tables import llactr_table
    from builder.language.field_vectors import make_vectors

    _check(arm, ARM_NAMES, "--arm")
    plain = make_build(recipe, runs)
    build = replace(plain, recipe=with_arms(plain.recipe, arm or ()))
    place = folder / build.recipe.name
    with _ingested(build):
        with bar("field vectors") as progress:
            language = make_vectors(build.events(), build.recipe, build.folder, progress).report
        with bar("train", has_estimate=False) as progress:
            comparison = run_comparison(build, seeds, jobs, place, progress, is_lean=True)
    options = "".join(f" --arm {name!r}" for name in arm or ())
    command = f"absorb llactr {recipe} --seeds {seeds}{options}"
    findings = find(comparison, [variant.label for variant in plain.recipe.variant], language)
    written = write_findings(findings, command, out or place)
    console.print(llactr_table(findings))
    console.print(*written, sep="\n", soft_wrap=True)


@app.command(
    "new-items",
    rich_help_panel=EXPERIMENTS,
    epilog=f"Example: absorb new-items builder/recipes/promotions.toml\n\n{EXIT_CODES}",
)
def new_items(
    recipe: RecipePath,
    seeds: Seeds = 3,
    folder: Trainings = Path("var/new-items"),
    out: Tables = None,
    device: DeviceName = None,
    runs: Runs = RUNS,
) -> None:
    """Measure how well items that first occur in the test days are scored by their fields.

    The recipe's model is trained with each seed; trainings that --folder holds are read.
    """
    from builder.experiments.new_items.measure import measure, trained
    from builder.experiments.new_items.text import write_new_items

    build = make_build(recipe, runs, device=device)
    place, outcomes = folder / build.recipe.name, {}
    with _ingested(build):
        events = build.events()
        for seed in range(seeds):
            with bar(f"train seed {seed}", has_estimate=False) as progress:
                checkpoint = trained(events, build.recipe, seed, place, progress)
            with bar(f"measure seed {seed}") as progress:
                outcomes[seed] = measure(checkpoint, events, build.recipe, progress)
    command = f"absorb new-items {recipe} --seeds {seeds}"
    written = write_new_items(build.recipe.name, outcomes, command, out or place)
    console.print(*written, sep="\n", soft_wrap=True)


@app.command(
    rich_help_panel=EXPERIMENTS,
    epilog=f"Example: absorb bench --out var/bench\n\n{EXIT_CODES}",
)
def bench(
    out: Annotated[Path, typer.Option(help="folder of table and plot")] = Path("var/bench"),
    quick: Annotated[bool, typer.Option(help="small sizes only, to try the command")] = False,
    training: Annotated[
        bool, typer.Option(help="time training instead: slates per second, an epoch, a profile")
    ] = False,
    suan: Annotated[
        bool, typer.Option(help="time SUAN instead: one by one, packed, and from the cache")
    ] = False,
) -> None:
    """Time the default model and its rivals by history length and slate size, in the runtime that serves them.

    The inputs are those of the default recipe, the weights are random. Tables of milliseconds, microseconds per
    candidate and bytes, and a plot.
    """
    from builder.experiments.bench.run import run_bench
    from builder.experiments.bench.suan import run_suan_bench
    from builder.experiments.bench.training import run_training_bench
    from builder.provenance import describe_machine

    if training and suan:
        given = "got --training and --suan, expected one of them"
        raise typer.BadParameter(given, param_hint="--suan")
    options = " --training" * training + " --suan" * suan + " --quick" * quick
    header = describe_machine(f"absorb bench --out {out}{options}")
    with bar("bench") as progress:
        if training:
            written = run_training_bench(out, progress, header, quick=quick)
        elif suan:
            written = run_suan_bench(out, progress, header, quick=quick)
        else:
            written = run_bench(out, progress, header, quick=quick)
    console.print(*written, sep="\n", soft_wrap=True)
