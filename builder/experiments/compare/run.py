"""Every variant of a recipe on the same data, targets, negatives, head and budget, over several seeds.

Each phase keeps its results in files, so an interrupted comparison continues where it stopped: search and trainings
(a file each), baselines, cost. Tables and plots are then written from all files.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from builder.errors import RecipeError
from builder.evaluate.baselines.measure import measure_baselines
from builder.evaluate.slate_evaluation import Vectors, load_vectors, save_vectors
from builder.experiments.compare.cost import Served
from builder.experiments.compare.jobs import Jobs, run_jobs
from builder.experiments.compare.plan import Outcomes, Plan, Training
from builder.experiments.compare.plot import plot_comparison
from builder.experiments.compare.table import Comparison, Row, SweepRows
from builder.experiments.compare.text import to_json, to_markdown
from builder.experiments.report.markdown import write_report
from builder.ingest.events import Events
from builder.ingest.run import input_fingerprint
from builder.pipeline import Build
from builder.prepared import Prepared
from builder.progress import Progress
from builder.provenance import code_revision
from builder.recipe.audit import exception_lines
from builder.recipe.models import SearchRule, Setting, Variant
from builder.recipe.recipe import Recipe, TrainRule
from models.registry import build_model

logger = logging.getLogger(__name__)


def run_comparison(
    build: Build,
    seeds: int,
    jobs: int,
    folder: Path,
    progress: Progress,
    only: Sequence[str] = (),
    *,
    is_lean: bool = False,
) -> Comparison:
    """Run the trainings that are not finished, and collect all results.

    Args:
        build: recipe and folder of the ingested log.
        seeds: trainings of each variant.
        jobs: processes, one thread each; 0: one per core.
        folder: of finished trainings.
        progress: called after every training.
        only: labels of the variants to train now; others are shown if they are finished. Empty: all.
        is_lean: metrics only, without baselines and without breakdowns of a long history.

    Raises:
        RecipeError: the recipe has no variants, or one that cannot be built.
        StepError: a training failed, or its process died.
    """
    recipe = build.recipe
    if not recipe.variant:
        raise RecipeError(
            str(recipe.path), ["variant: missing, `compare` needs [[variant]] tables"]
        )
    events = build.events()
    _check_models(recipe, events)
    folder.mkdir(parents=True, exist_ok=True)
    prepared = prepare(build)
    workers = jobs or os.cpu_count() or 1
    todo = Jobs(prepared, folder, seeds, workers, only, is_lean=is_lean, revision=code_revision())
    run_jobs(todo, progress)
    return _collect(todo.plan(), events)


def collect_comparison(build: Build, seeds: int, folder: Path) -> Comparison:
    """Collect the results of finished trainings; nothing is trained. Baselines are measured if they are missing.

    Args:
        build: recipe and folder of the ingested log.
        seeds: trainings of each variant.
        folder: of finished trainings.
    """
    todo = Jobs(prepare(build), folder, seeds, 1, (), revision=code_revision())
    return _collect(todo.plan(), build.events())


def _collect(plan: Plan, events: Events) -> Comparison:
    recipe, rows = plan.recipe, _rows(plan)
    shown = {row.label for row in rows}
    floors, floor_vectors = (
        ({}, {}) if plan.is_lean else _floors(events, recipe, plan.outcomes.folder)
    )
    return Comparison(
        name=recipe.name,
        rows=rows,
        sweeps=_sweeps(plan),
        floors=floors,
        floor_vectors=floor_vectors,
        history_length=recipe.history.length,
        missing=[variant.label for variant in recipe.variant if variant.label not in shown],
        budget=" ".join([*exception_lines(recipe.audit), _budget(recipe, plan.seeds)]),
    )


def prepare(build: Build, out: Path | None = None) -> Prepared:
    """Make a prepared folder of the ingested log and the recipe.

    Args:
        build: recipe, and run folder with the ingested log.
        out: the folder; None: the run folder itself.
    """
    log = input_fingerprint(build.recipe)
    prepared = Prepared(out or build.folder.path, build.recipe, log)
    if out is not None:
        shutil.copytree(build.folder.events, out / "events", dirs_exist_ok=True)
    prepared.save()
    return prepared


def served(comparison: Comparison) -> list[Served]:
    """The models of all rows, sweeps too, as the search left them."""
    swept = [row for sweep in comparison.sweeps for _, row in sweep.rows]
    return [(row.model, row.length) for row in (*comparison.rows, *swept)]


def write_comparison(comparison: Comparison, command: str, out: Path) -> list[Path]:
    """Write tables and plots; return their paths.

    Args:
        comparison: its rows and sweeps.
        command: the command line that made it.
        out: folder, made if absent.
    """
    written = write_report(
        out, "table", to_markdown(comparison, command), to_json(comparison, command)
    )
    return [*written, *plot_comparison(comparison, out)]


def _check_models(recipe: Recipe, events: Events) -> None:
    """Validate every model against the schema before training."""
    item_fields = torch.from_numpy(np.array(events.item_fields))
    plan = Plan(recipe, 1, Outcomes(Path(), ""))
    choices = [
        (f"variant {variant.label!r}", plan.trainings(variant, plan.usual)[0].recipe)
        for variant in recipe.variant
    ]
    for sweep in recipe.sweep:
        for value, (training, *_) in plan.sweep_trainings(sweep, plan.usual):
            choices.append((f"sweep {sweep.label!r}, {value}", training.recipe))
    problems = []
    for name, own in choices:
        schema, model = events.with_length(own.history.length).schema, own.model
        try:
            build_model(model.name, schema, item_fields, model.config)
        except ValueError as error:
            problems.append(f"{name}: {error}")
    if problems:
        raise RecipeError(str(recipe.path), problems)


def _rows(plan: Plan) -> list[Row]:
    """Rows of all variants with a finished training, families together."""
    families = list(dict.fromkeys(variant.family for variant in plan.recipe.variant))
    ordered = sorted(plan.recipe.variant, key=lambda variant: families.index(variant.family))
    rows = []
    for variant in ordered:
        chosen = plan.chosen(variant)
        if chosen is not None:
            rows += _row(plan, variant, chosen, plan.trainings(variant, chosen))
    return rows


def _row(plan: Plan, variant: Variant, chosen: Setting, trainings: Sequence[Training]) -> list[Row]:
    """One row; empty if none of its trainings is finished."""
    outcomes = plan.finished(trainings)
    if not outcomes:
        return []
    model, trials = trainings[0].recipe.model, plan.finished(plan.trials(variant))
    kept = {training.seed: plan.outcomes.vectors(training) for training in trainings}
    return [
        Row(
            variant.label,
            variant.family,
            model,
            chosen.learning_rate,
            outcomes,
            trials,
            variant.against,
            vectors={seed: vectors for seed, vectors in kept.items() if vectors is not None},
            length=variant.length,
        )
    ]


def _sweeps(plan: Plan) -> list[SweepRows]:
    sweeps = []
    for sweep in plan.recipe.sweep:
        variant = plan.variant(sweep.variant)
        chosen = plan.chosen(variant)
        if chosen is None:
            continue
        rows = [
            (value, row)
            for value, trainings in plan.sweep_trainings(sweep, chosen)
            for row in _row(plan, variant, chosen, trainings)
        ]
        if rows:
            sweeps.append(SweepRows(sweep.label, sweep.variant, sweep.key, rows))
    return sweeps


def _budget(recipe: Recipe, seeds: int) -> str:
    rule, rates = recipe.train, recipe.search.learning_rate
    each = (
        f"Each training: {_length(rule)} of {rule.slates_per_step} users with up to {rule.positives_per_slate} "
        f"positives, {rule.optimizer}; seeds 0 to {seeds - 1}; the best validated weights are kept."
    )
    if not rates:
        return f"No search: the learning rate is {rule.learning_rate:g} for all. {each}"
    listed = ", ".join(f"{rate:g}" for rate in rates)
    steps = recipe.search.steps or rule.steps
    if recipe.search.trials is not None:
        return f"{_draws(recipe.search, steps, listed)} {each}"
    return (
        f"The same search for all: {len(rates)} trials of {steps:,} steps, one for each learning rate of {listed}, "
        f"with a seed of their own; the best validation wins, and the test period is not used. {each}"
    )


def _draws(search: SearchRule, steps: int, rates: str) -> str:
    lists = {"learning rate": rates}
    if search.weight_decay:
        lists["weight decay"] = ", ".join(f"{value:g}" for value in search.weight_decay)
    lists |= {key: ", ".join(map(str, values)) for key, values in search.model.items()}
    drawn = "; ".join(f"{name} {values}" for name, values in lists.items())
    return (
        f"The same search for all: {search.trials} trials of {steps:,} steps, drawn from {drawn} (the last as far as "
        "a variant has them), with a seed of their own; the best validation wins, the test period is not used."
    )


def _length(rule: TrainRule) -> str:
    most = f"at most {rule.steps:,} steps"
    if rule.max_epochs is not None:
        most = f"{rule.max_epochs:g} × {rule.share:g} of the training slates, {most}"
    if not rule.patience:
        return most
    return f"until {rule.patience} validations, {rule.validate_every:,} steps apart, were not better, {most}"


def _floors(
    events: Events, recipe: Recipe, folder: Path
) -> tuple[dict[str, dict[str, Any]], dict[str, Vectors]]:
    """Metrics of the baselines, and of each slate: measured once for a log, its split, histories and negatives."""
    parts = [
        input_fingerprint(recipe),
        recipe.fingerprint(("data", "split", "history", "negatives", "sampling")),
    ]
    parts.append(str(recipe.train.positives_per_slate))  # decides which negatives are drawn
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
    place = folder / f"floors-{key}.json"
    if not place.exists():
        logger.info("measuring the baselines")
        measured = measure_baselines(events, recipe)
        for name, vectors in measured.vectors.items():
            save_vectors(vectors, place.with_name(f"{place.stem}-{name}.npz"))
        place.write_text(json.dumps(measured.to_dict(), indent=1))
    metrics: dict[str, dict[str, Any]] = json.loads(place.read_text())
    paths = {name: place.with_name(f"{place.stem}-{name}.npz") for name in metrics}
    return metrics, {name: load_vectors(path) for name, path in paths.items() if path.is_file()}
