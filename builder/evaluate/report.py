"""The evaluate step: everything the report says of a trained model."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from builder.checkpoint import Checkpoint
from builder.dataset.batches import Part, Targets
from builder.dataset.parts import batch_source, part_slates
from builder.evaluate.baseline_counts import measure_floor
from builder.evaluate.baseline_trees import measure_trees
from builder.evaluate.breakdowns import Group, cut, cut_keys
from builder.evaluate.metrics import Metrics, measure
from builder.evaluate.predict import (
    EVALUATION_SLATES,
    SEED,
    auc_by_history,
    oracle_auc,
    predict,
    trained,
)
from builder.evaluate.record_quality import Stored, measure_stored
from builder.ingest.events import Events
from builder.progress import Progress, silent
from builder.recipe.recipe import Recipe
from models.contract.record import RecordDtype

FLOOR_STEPS = 200
"""Training batches of the floor: some 60,000 targets for a handful of weights."""
TREES_STEPS = 600
"""Training batches of the trees, and validation batches at most."""


@dataclass(frozen=True)
class Floors:
    """What needs no model of a sequence, on the same test targets.

    Attributes:
        counts: logistic regression on counts (`floor.py`).
        trees: boosted trees on counts and ages (`floor_trees.py`).
    """

    counts: Metrics
    trees: Metrics


@dataclass(frozen=True)
class Report:
    """What is known of a trained model.

    Attributes:
        test: metrics of the served graph on the test period.
        trained_graph: metrics of the graph that training fitted, where it is another (the train/serve gap).
        floor: metrics of logistic regression on counts in the same histories.
        trees_floor: metrics of boosted trees on counts and ages in the same histories.
        oracle_auc: AUC of the true click probabilities, where the log has them.
        by_history: metrics by number of events in the history: label -> AUC.
        stored: bytes of a user's record and what they cost in quality, by the record's dtype (`stored.py`).
        cuts: AUC by where the evidence for a target lies (`cuts.py`): cut -> group -> AUC and size.
        seconds: to train.
    """

    test: Metrics
    trained_graph: Metrics | None
    floor: Metrics | None
    trees_floor: Metrics | None
    oracle_auc: float | None
    by_history: dict[str, float]
    stored: dict[RecordDtype, Stored]
    cuts: dict[str, dict[str, Group]]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON's types."""
        return asdict(self)


def evaluate(
    checkpoint: Checkpoint,
    events: Events,
    recipe: Recipe,
    progress: Progress = silent,
    *,
    with_floors: bool = True,
    is_lean: bool = False,
) -> Report:
    """Measure a checkpoint on the test period, beside the floors (if asked for) and the oracle (if known).

    Lean: metrics alone, not what explains a long history and its record.
    """
    model = checkpoint.build()
    source, slates = batch_source(events, recipe, "test"), part_slates(events, recipe, "test")
    keys = {} if is_lean else cut_keys(events)
    predictions = predict(model, source, slates, progress=progress, keys=list(keys.values()))
    gap = None
    if not model.trains_what_it_serves:
        gap = measure(*predict(model, source, slates, trained, progress).for_metrics())
    lowest = floors(events, recipe) if with_floors else None
    return Report(
        test=measure(*predictions.for_metrics()),
        trained_graph=gap,
        floor=lowest.counts if lowest else None,
        trees_floor=lowest.trees if lowest else None,
        oracle_auc=oracle_auc(events, predictions),
        by_history={} if is_lean else auc_by_history(predictions, events.schema.history_length),
        stored={} if is_lean else measure_stored(model, source, slates),
        cuts=cut(predictions, list(keys)) if keys else {},
        seconds=checkpoint.history[-1]["seconds"],
    )


def floors(events: Events, recipe: Recipe) -> Floors:
    """Both floors."""

    def targets(part: Part, limit: int | None = None) -> Iterator[Targets]:
        source, slates = batch_source(events, recipe, part), part_slates(events, recipe, part)
        rng = np.random.default_rng(SEED)
        shuffle = limit is not None
        for step, (_, found) in enumerate(
            source.epoch(slates, EVALUATION_SLATES, rng, shuffle=shuffle)
        ):
            if step == limit:
                return
            yield found

    counts, _ = measure_floor(events, targets("train", FLOOR_STEPS), targets("test"))
    trees = measure_trees(
        events, targets("train", TREES_STEPS), targets("validate", TREES_STEPS), targets("test")
    )
    return Floors(counts, trees)
