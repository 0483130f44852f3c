"""Every variant of a recipe on the same data, targets, negatives, head and budget, over several seeds.

A finished training is one JSON file, so a comparison that was cut off goes on where it stopped.
"""

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from builder.compare_table import Floor, Row, to_markdown
from builder.events import Events
from builder.ingest import input_fingerprint
from builder.progress import Progress
from builder.recipe import Recipe, Variant
from builder.report import evaluate, floor
from builder.steps import Build
from builder.train import train
from models.errors import RecipeError

logger = logging.getLogger(__name__)


def run_comparison(
    build: Build, seeds: int, jobs: int, folder: Path, progress: Progress
) -> tuple[list[Row], Floor]:
    """Train what is not there yet, then write `table.md` and `table.json`.

    Args:
        build: recipe and folder of the ingested log.
        seeds: trainings of each variant.
        jobs: processes, one thread each; 0: one per core.
        folder: of finished trainings and tables.
        progress: told after every training.

    Raises:
        RecipeError: the recipe has no variants.
    """
    variants = build.recipe.variant
    if not variants:
        raise RecipeError(
            str(build.recipe.path), ["variant: missing, `compare` needs [[variant]] tables"]
        )
    folder.mkdir(parents=True, exist_ok=True)
    log = input_fingerprint(build.recipe)
    due = [
        (
            build.recipe,
            variant,
            seed,
            build.folder.events,
            _place(folder, build.recipe, log, variant, seed),
        )
        for seed in range(seeds)
        for variant in variants
    ]
    todo = [job for job in due if not job[-1].exists()]
    _train_all(todo, jobs or os.cpu_count() or 1, progress)
    rows = [
        Row(variant.label, [json.loads(job[-1].read_text()) for job in due if job[1] is variant])
        for variant in variants
    ]
    lowest = Floor(asdict(floor(Events.load(build.folder.events), build.recipe)))
    _write_tables(rows, lowest, build.recipe, seeds, folder)
    return rows, lowest


def _place(folder: Path, recipe: Recipe, log: str, variant: Variant, seed: int) -> Path:
    """A file per training; another log, recipe, variant or seed has another name."""
    parts = [
        log,
        recipe.fingerprint(("data", "split", "history", "negatives", "train")),
        variant.model.config,
    ]
    text = json.dumps([*parts, variant.model.name, seed], sort_keys=True)
    label = variant.label.replace("/", "-")
    return folder / f"{label}-seed{seed}-{hashlib.sha256(text.encode()).hexdigest()[:8]}.json"


def _train_all(todo: Sequence[Any], jobs: int, progress: Progress) -> None:
    progress(0, len(todo))
    # Spawned, not forked: torch's thread pool does not survive a fork.
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        running = {pool.submit(_train_one, *job): job for job in todo}
        for done, future in enumerate(as_completed(running), 1):
            _, variant, seed, _, _ = running[future]
            line = f"{variant.label}, seed {seed}: AUC {future.result():.4f}"
            logger.info("%d of %d trained: %s", done, len(todo), line)
            progress(done, len(todo), line)


def _train_one(
    recipe: Recipe, variant: Variant, seed: int, events_folder: Path, place: Path
) -> float:
    rule = replace(recipe.train, seed=seed, threads=1)
    chosen = replace(recipe, model=variant.model, train=rule)
    events = Events.load(events_folder)
    report = evaluate(train(events, chosen), events, chosen, with_floor=False)
    staged = place.with_suffix(".new")
    staged.write_text(json.dumps(report.to_dict(), indent=1))
    staged.replace(place)
    return report.test.auc


def _write_tables(
    rows: Sequence[Row], lowest: Floor, recipe: Recipe, seeds: int, folder: Path
) -> None:
    command = f"python -m builder compare {recipe.path} --seeds {seeds}"
    (folder / "table.md").write_text(to_markdown(rows, lowest, command))
    plain = {"command": command, "floor": lowest.metrics, "rows": [asdict(row) for row in rows]}
    (folder / "table.json").write_text(json.dumps(plain, indent=1))
