"""The trainings of a comparison, several at once, one thread each: trials, then what they unlock, longest first."""

import json
import logging
import math
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from builder.errors import StepError
from builder.evaluate.report import evaluate
from builder.experiments.compare.plan import Outcome, Plan, State, Training
from builder.ingest.events import Events
from builder.language.field_vectors import vectors_of
from builder.progress import Progress
from builder.provenance import code_revision
from builder.recipe.models import Variant
from builder.run_folder import RunFolder
from builder.train.train import train
from models.registry import make_config

logger = logging.getLogger(__name__)


def train_all(
    plan: Plan, variants: Sequence[Variant], jobs: int, folder: RunFolder, progress: Progress
) -> None:
    """Run the trainings that are not finished.

    Args:
        plan: all trainings of the comparison.
        variants: those whose trials, trainings and sweeps are wanted now.
        jobs: processes.
        folder: of the ingested log and of field vectors.
        progress: called after every training.

    Raises:
        StepError: the process of a training died.
    """
    pace, state, revision = _Pace(plan, variants), plan.state(variants), code_revision()
    progress(state.done, state.total)
    # Spawned, not forked: torch's thread pool does not survive a fork.
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        running: dict[Future[None], Training] = {}
        while state.due:
            places = {plan.outcomes.place(training) for training in running.values()}
            for training in sorted(state.due, key=pace.seconds, reverse=True):
                place = plan.outcomes.place(training)
                if len(running) < jobs and place not in places:
                    places.add(place)
                    future = pool.submit(run_training, training, folder, place, revision)
                    running[future] = training
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                line = _finish(plan, future, running.pop(future), pace)
            state = plan.state(variants)
            logger.info("%d of %d trained: %s", state.done, state.total, line)
            progress(state.done, state.total, f"{line}; {pace.estimate(state, jobs)}")


def run_training(training: Training, folder: RunFolder, place: Path, revision: str) -> None:
    """Train, validate and, unless it is a trial, test; write the outcome to `place`.

    Args:
        training: what to train.
        folder: of the ingested log and of field vectors.
        place: a JSON file.
        revision: of the code, for the record.
    """
    began_s = time.monotonic()
    events, recipe = _events(folder.events), training.recipe
    checkpoint = train(events, recipe, vectors=vectors_of(events, recipe, folder))
    outcome: Outcome = {
        "label": training.label,
        "model": recipe.model.name,
        "config": asdict(make_config(recipe.model.name, recipe.model.config)),
        "seed": training.seed,
        "learning_rate": recipe.train.learning_rate,
        "weight_decay": recipe.train.weight_decay,
        "steps": checkpoint.history[-1]["step"],
        "revision": revision,
        "validation": checkpoint.best,
        "ended": checkpoint.ended,
        "history": checkpoint.history,
        "seconds": checkpoint.history[-1]["seconds"],
    }
    if not training.is_trial:
        outcome |= evaluate(
            checkpoint, events, recipe, with_baselines=False, is_lean=training.is_lean
        ).to_dict()
    outcome["total_seconds"] = time.monotonic() - began_s
    staged = place.with_suffix(".new")
    staged.write_text(json.dumps(outcome, indent=1))
    staged.replace(place)


@lru_cache(maxsize=1)
def _events(folder: Path) -> Events:
    """Load a log once per process."""
    return Events.load(folder)


def _finish(plan: Plan, future: Future[None], training: Training, pace: "_Pace") -> str:
    """One line about a finished training."""
    try:
        future.result()
    except BrokenProcessPool as error:
        raise StepError(
            f"compare: the process of {training.label!r} or of a training beside it died (too little memory?); "
            "finished trainings are kept: run the command again, if need be with fewer --jobs"
        ) from error
    outcome = plan.outcomes.find(training)
    if outcome is None:
        raise StepError(
            f"compare: {plan.outcomes.place(training)}: no such file, expected the outcome of a finished training"
        )
    pace.add(training, outcome)
    if training.is_trial:
        return f"{training.label}: validation AUC {outcome['validation']['auc']:.4f}"
    return f"{training.label}, seed {training.seed}: AUC {outcome['test']['auc']:.4f}"


class _Pace:
    """Seconds per step of each variant: starts the longest trainings first and estimates the time left."""

    def __init__(self, plan: Plan, variants: Sequence[Variant]) -> None:
        self._seconds: dict[str, float] = {}
        for variant in variants:
            chosen = plan.chosen(variant)
            rest = [] if chosen is None else plan.all_of(variant, chosen)
            for training in (*plan.trials(variant), *rest):
                outcome = plan.outcomes.find(training)
                if outcome is not None:
                    self.add(training, outcome)

    def add(self, training: Training, outcome: Mapping[str, Any]) -> None:
        """Record the pace of a finished training."""
        self._seconds[training.variant] = outcome["total_seconds"] / outcome["steps"]

    def seconds(self, training: Training) -> float:
        """Estimated seconds of a training; infinite for a variant without a finished one, which then starts early."""
        return self._seconds.get(training.variant, math.inf) * training.recipe.train.steps

    def estimate(self, state: State, jobs: int) -> str:
        """Time left, as text."""
        guesses = [self.seconds(training) for training in (*state.due, *state.waiting)]
        known = [guess for guess in guesses if math.isfinite(guess)]
        if not known:
            return "time left unknown" if guesses else "all trained"
        minutes = sum(known) / len(known) * len(guesses) / jobs / 60
        return (
            f"about {minutes:.0f} min left" if minutes < 90 else f"about {minutes / 60:.1f} h left"
        )
