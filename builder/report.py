"""The evaluate step: everything the report says of a trained model."""

from collections.abc import Iterator

import numpy as np

from builder.checkpoint import Checkpoint
from builder.dataset import Part, Targets
from builder.evaluate import (
    EVALUATION_SLATES,
    SEED,
    Report,
    auc_by_history,
    oracle_auc,
    predict,
    trained,
)
from builder.events import Events
from builder.floor import measure_floor
from builder.metrics import Metrics, measure
from builder.progress import Progress, silent
from builder.recipe import Recipe
from builder.train import batch_source, part_slates

FLOOR_STEPS = 200
"""Training batches of the floor: some 60,000 targets for a handful of weights."""


def evaluate(
    checkpoint: Checkpoint,
    events: Events,
    recipe: Recipe,
    progress: Progress = silent,
    *,
    with_floor: bool = True,
) -> Report:
    """Measure a checkpoint on the test period, beside the floor (if asked for) and the oracle (if known)."""
    model = checkpoint.build()
    source, slates = batch_source(events, recipe, "test"), part_slates(events, recipe, "test")
    predictions = predict(model, source, slates, progress=progress)
    gap = None
    if not model.trains_what_it_serves:
        gap = measure(*predict(model, source, slates, trained, progress).for_metrics())
    return Report(
        test=measure(*predictions.for_metrics()),
        trained_graph=gap,
        floor=floor(events, recipe) if with_floor else None,
        oracle_auc=oracle_auc(events, predictions),
        by_history=auc_by_history(predictions, events.schema.history_length),
        seconds=checkpoint.history[-1]["seconds"],
    )


def floor(events: Events, recipe: Recipe) -> Metrics:
    """Logistic regression on counts, on the same test targets."""

    def targets(part: Part, limit: int | None) -> Iterator[Targets]:
        source, slates = batch_source(events, recipe, part), part_slates(events, recipe, part)
        rng = np.random.default_rng(SEED)
        shuffle = limit is not None
        for step, (_, found) in enumerate(
            source.epoch(slates, EVALUATION_SLATES, rng, shuffle=shuffle)
        ):
            if step == limit:
                return
            yield found

    return measure_floor(events, targets("train", FLOOR_STEPS), targets("test", None))[0]
