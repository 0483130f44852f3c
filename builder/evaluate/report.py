"""The evaluate step: the report on a trained model.

A log with pools is measured on the whole pools of a fixed sample of test slates (`slate_evaluation.py`), any other log
on all targets of its test period. Without baselines it needs torch and numpy only, and it runs where the model is.
"""

from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from builder.checkpoint import Checkpoint
from builder.dataset.parts import batch_source, part_slates
from builder.evaluate.breakdowns import Group
from builder.evaluate.calibration import Chosen, choose_calibration, validation_scores
from builder.evaluate.measure import Rows, measure_model
from builder.evaluate.metrics.targets import Metrics
from builder.evaluate.predict import trained
from builder.evaluate.record_quality import RecordQuality, measure_record_quality
from builder.evaluate.slate_evaluation import TEST_SLATES, Vectors
from builder.ingest.events import Events
from builder.progress import Progress, silent
from builder.recipe.recipe import Recipe
from models.base import CtrModel
from models.contract.state_spec import RecordDtype
from models.sequence.sequence_model import SequenceModel

BUILD_TREES_STEPS = 150
"""Batches that a build fits its trees baseline on; a comparison takes 600, for minutes more."""


@dataclass(frozen=True)
class Report:
    """Quality of a trained model. The names are keys of the artifact's manifest and of finished comparisons.

    Attributes:
        test: metrics of the served graph on the test period.
        trained_graph: metrics of the graph that training fitted; None where it is the served one.
        floor: metrics of the counts baseline; None if it was not measured.
        trees_floor: metrics of the trees baseline; None if it was not measured.
        oracle_auc: AUC of the true click probabilities; None where the log does not hold them.
        by_history: number of events in the history, "low-high" -> its targets.
        stored: size and quality of records by dtype (`record_quality.py`).
        cuts: groups of targets (`breakdowns.py`): breakdown -> group -> its targets.
        reliability: predicted against observed rates (`metrics.pooled.reliability`).
        calibration: what was fitted on validation and kept (`calibration.Chosen`); None: nothing was fitted. All
            metrics are those after calibration, which is what the service answers.
        uncalibrated: metrics before calibration; None without one.
        head_fields: item fields that a head of attention starts with, and item fields without a head; None for a model
            that does not attend by field.
        seconds: training time.
        vectors: metrics of each slate, for intervals over users (`intervals.py`); not part of the manifest.
            `slate_evaluation.save_vectors` writes them beside a finished training.
    """

    test: Metrics
    trained_graph: Metrics | None
    floor: Metrics | None
    trees_floor: Metrics | None
    oracle_auc: float | None
    by_history: dict[str, Group]
    stored: dict[RecordDtype, RecordQuality]
    cuts: dict[str, dict[str, Group]]
    reliability: Rows
    seconds: float
    calibration: dict[str, Any] | None = None
    uncalibrated: Metrics | None = None
    head_fields: tuple[tuple[str, ...], tuple[str, ...]] | None = None
    vectors: Vectors = field(default_factory=dict, compare=False, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """The report in JSON types, without the vectors."""
        return {name: value for name, value in asdict(self).items() if name != "vectors"}


def evaluate(
    checkpoint: Checkpoint,
    events: Events,
    recipe: Recipe,
    progress: Progress = silent,
    *,
    with_baselines: bool = True,
    is_lean: bool = False,
    device: torch.device | None = None,
    test_slates: int = TEST_SLATES,
) -> Report:
    """Measure a checkpoint on the test period.

    Args:
        checkpoint: the trained model.
        events: the ingested log.
        recipe: what the checkpoint was trained by.
        progress: called after every batch.
        with_baselines: as a build does, measure the baselines too and calibrate by the recipe's rule; comparisons show
            all models as they were trained.
        is_lean: metrics only: no breakdowns, no quality by history length, no record quality.
        device: where the model runs; None: the CPU.
        test_slates: number of slates whose whole pools are measured, in a log with pools.
    """
    model = checkpoint.build().to(device or torch.device("cpu"))
    source, slates = batch_source(events, recipe, "test"), part_slates(events, recipe, "test")
    chosen = _calibration(model, events, recipe) if with_baselines else None
    calibration = chosen.calibration if chosen else None
    measured = measure_model(
        model, source, slates, progress, is_lean=is_lean, count=test_slates, calibration=calibration
    )
    gap = None
    if not model.trains_what_it_serves:
        gap = measure_model(
            model, source, slates, progress, forward=trained, is_lean=True, count=test_slates
        ).test
    counts = trees = None
    if with_baselines:
        from builder.evaluate.baselines.measure import measure_baselines  # LightGBM

        progress(1, 1, "fitting the baselines")
        baselines = measure_baselines(events, recipe, test_slates, BUILD_TREES_STEPS)
        counts, trees = baselines.counts, baselines.trees
    return Report(
        test=measured.test,
        trained_graph=gap,
        floor=counts,
        trees_floor=trees,
        oracle_auc=measured.oracle_auc,
        by_history=measured.by_history,
        stored={} if is_lean else measure_record_quality(model, source, slates),
        cuts=measured.cuts,
        reliability=measured.reliability,
        seconds=checkpoint.history[-1]["seconds"],
        calibration=chosen.to_dict() if chosen else None,
        uncalibrated=measured.uncalibrated,
        head_fields=model.head_fields if isinstance(model, SequenceModel) else None,
        vectors=measured.vectors,
    )


def _calibration(model: CtrModel, events: Events, recipe: Recipe) -> Chosen | None:
    method = recipe.calibration.method
    if method == "none":
        return None
    source, slates = (
        batch_source(events, recipe, "validate"),
        part_slates(events, recipe, "validate"),
    )
    return choose_calibration(validation_scores(model, source, slates), method)
