"""The evaluate step: the report on a trained model."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from builder.checkpoint import Checkpoint
from builder.dataset.batches import Part, Targets
from builder.dataset.parts import batch_source, part_slates
from builder.evaluate.baseline_counts import measure_counts
from builder.evaluate.baseline_trees import measure_trees
from builder.evaluate.breakdowns import Group, break_down, breakdown_keys
from builder.evaluate.metrics import Metrics, measure
from builder.evaluate.predict import (
    EVALUATION_SLATES,
    SEED,
    auc_by_history,
    oracle_auc,
    predict,
    trained,
)
from builder.evaluate.record_quality import RecordQuality, measure_record_quality
from builder.ingest.events import Events
from builder.progress import Progress, silent
from builder.recipe.recipe import Recipe
from models.contract.record import RecordDtype

COUNTS_STEPS = 200
"""Training batches of the counts baseline: about 60,000 targets for a handful of weights."""
TREES_STEPS = 600
"""Training batches of the trees baseline, and the most validation batches that it stops by."""


@dataclass(frozen=True)
class Baselines:
    """Metrics of the baselines on the model's own test targets.

    Attributes:
        counts: logistic regression on counts (`baseline_counts.py`).
        trees: boosted trees on counts and ages (`baseline_trees.py`).
    """

    counts: Metrics
    trees: Metrics


@dataclass(frozen=True)
class Report:
    """Quality of a trained model. The names are keys of the artifact's manifest and of finished comparisons.

    Attributes:
        test: metrics of the served graph on the test period.
        trained_graph: metrics of the graph that training fitted; None where it is the served one.
        floor: metrics of the counts baseline; None if it was not measured.
        trees_floor: metrics of the trees baseline; None if it was not measured.
        oracle_auc: AUC of the true click probabilities; None where the log does not hold them.
        by_history: AUC by number of events in the history: "low-high" -> AUC.
        stored: size and quality of records by dtype (`record_quality.py`).
        cuts: AUC by groups of targets (`breakdowns.py`): breakdown -> group -> AUC and size.
        seconds: training time.
    """

    test: Metrics
    trained_graph: Metrics | None
    floor: Metrics | None
    trees_floor: Metrics | None
    oracle_auc: float | None
    by_history: dict[str, float]
    stored: dict[RecordDtype, RecordQuality]
    cuts: dict[str, dict[str, Group]]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """The report in JSON types."""
        return asdict(self)


def evaluate(
    checkpoint: Checkpoint,
    events: Events,
    recipe: Recipe,
    progress: Progress = silent,
    *,
    with_baselines: bool = True,
    is_lean: bool = False,
) -> Report:
    """Measure a checkpoint on the test period.

    Args:
        checkpoint: the trained model.
        events: the ingested log.
        recipe: what the checkpoint was trained by.
        progress: called after every batch.
        with_baselines: measure the baselines too.
        is_lean: metrics only: no breakdowns, no AUC by history length, no record quality.
    """
    model = checkpoint.build()
    source, slates = batch_source(events, recipe, "test"), part_slates(events, recipe, "test")
    keys = {} if is_lean else breakdown_keys(events)
    predictions = predict(model, source, slates, progress=progress, keys=list(keys.values()))
    gap = None
    if not model.trains_what_it_serves:
        gap = measure(*predict(model, source, slates, trained, progress).for_metrics())
    if with_baselines:
        progress(1, 1, "fitting the baselines")
    baselines = measure_baselines(events, recipe) if with_baselines else None
    return Report(
        test=measure(*predictions.for_metrics()),
        trained_graph=gap,
        floor=baselines.counts if baselines else None,
        trees_floor=baselines.trees if baselines else None,
        oracle_auc=oracle_auc(events, predictions),
        by_history={} if is_lean else auc_by_history(predictions, events.schema.history_length),
        stored={} if is_lean else measure_record_quality(model, source, slates),
        cuts=break_down(predictions, list(keys)) if keys else {},
        seconds=checkpoint.history[-1]["seconds"],
    )


def measure_baselines(events: Events, recipe: Recipe) -> Baselines:
    """Fit and measure both baselines."""

    def targets(part: Part, limit: int | None = None) -> Iterator[Targets]:
        source, slates = batch_source(events, recipe, part), part_slates(events, recipe, part)
        rng = np.random.default_rng(SEED)
        shuffle = limit is not None
        for step, (_, batch_targets) in enumerate(
            source.epoch(slates, EVALUATION_SLATES, rng, shuffle=shuffle)
        ):
            if step == limit:
                return
            yield batch_targets

    counts = measure_counts(events, targets("train", COUNTS_STEPS), targets("test"))
    trees = measure_trees(
        events, targets("train", TREES_STEPS), targets("validate", TREES_STEPS), targets("test")
    )
    return Baselines(counts, trees)
