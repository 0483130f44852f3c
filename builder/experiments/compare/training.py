"""One training of a comparison: its outcome is a JSON file, and a small file with the metrics of each test slate."""

import json
import math
import time
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from builder.checkpoint import Checkpoint
from builder.errors import StepError
from builder.evaluate.report import evaluate
from builder.evaluate.slate_evaluation import TEST_SLATES, save_vectors
from builder.experiments.compare.plan import Outcome, Training
from builder.ingest.events import Events
from builder.prepared import Prepared
from builder.recipe.recipe import Recipe
from builder.train.device import find_device
from builder.train.train import train
from models.registry import make_config

SAVE_EVERY_S = 60.0
"""Between states of an unfinished training."""


def run_training(
    training: Training,
    prepared: Prepared,
    place: Path,
    revision: str,
    deadline_s: float = math.inf,
    test_slates: int = TEST_SLATES,
) -> Outcome | None:
    """Train, validate and, unless it is a trial, test; write the outcome to `place`.

    Args:
        training: what to train.
        prepared: with the log.
        place: a JSON file.
        revision: of the code, for the record.
        deadline_s: in `time.monotonic()`: a training that is not at its end then keeps its state, and has no outcome.
        test_slates: slates whose whole pools are measured, in a log with pools.

    Returns:
        The outcome; None if the time was up.
    """
    began_s = time.monotonic()
    recipe = training.recipe
    events = _events(prepared.folder, recipe.history.length)
    state = place.parent / "unfinished" / place.stem
    checkpoint = train(
        events,
        recipe,
        vectors=_vectors(events, recipe, prepared.folder),
        folder=state,
        save_every_s=SAVE_EVERY_S,
        deadline_s=deadline_s,
    )
    if checkpoint.ended == "time":
        return None
    device = find_device(recipe.train.device)
    outcome = _describe(training, checkpoint, device, revision)
    if not training.is_trial:
        report = evaluate(
            checkpoint,
            events,
            recipe,
            with_baselines=False,
            is_lean=training.is_lean,
            device=device,
            test_slates=test_slates,
        )
        outcome |= report.to_dict()
        if report.vectors:
            save_vectors(report.vectors, place.with_suffix(".npz"))
    outcome["total_seconds"] = time.monotonic() - began_s
    # Last: where the JSON is, the training is whole.
    staged = place.with_suffix(".new")
    staged.write_text(json.dumps(outcome, indent=1))
    staged.replace(place)
    if state.is_dir():
        state.rmdir()
    return outcome


def _describe(
    training: Training, checkpoint: Checkpoint, device: torch.device, revision: str
) -> Outcome:
    model, rule, last = training.recipe.model, training.recipe.train, checkpoint.history[-1]
    is_gpu = device.type == "cuda"
    return {
        "label": training.label,
        "model": model.name,
        "config": asdict(make_config(model.name, model.config)),
        "seed": training.seed,
        "learning_rate": rule.learning_rate,
        "weight_decay": rule.weight_decay,
        "steps": last["step"],
        "best_step": checkpoint.best_step,
        "ended": checkpoint.ended,
        "revision": revision,
        "device": torch.cuda.get_device_name(device) if is_gpu else "cpu",
        "torch": torch.__version__,
        "validation": checkpoint.best,
        "history": checkpoint.history,
        "seconds": last["seconds"],
    }


def _vectors(events: Events, recipe: Recipe, folder: Path) -> Float[Tensor, "K Dl"] | None:
    """Field vectors, for models that read them."""
    if recipe.language is None or not recipe.model.config.get("llm_dim"):
        return None
    try:
        from builder.language.field_vectors import vectors_of  # needs more than torch and numpy
        from builder.run_folder import RunFolder
    except ModuleNotFoundError as error:
        raise StepError(f"compare: {recipe.model.name} reads field vectors: {error}") from error
    return vectors_of(events, recipe, RunFolder(folder))


@lru_cache(maxsize=2)
def _events(folder: Path, length: int) -> Events:
    """Load a log once per process."""
    return Events.load(folder / "events").with_length(length)
