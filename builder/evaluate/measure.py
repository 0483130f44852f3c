"""Metrics, groups and vectors of one model on one part of the log.

Whole pools of a fixed sample of slates are measured where the log has pools, all targets elsewhere.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from builder.dataset.batches import BatchSource, Slates
from builder.evaluate.breakdowns import Group, break_down, break_down_history, breakdown_keys
from builder.evaluate.metrics.targets import Metrics, measure
from builder.evaluate.metrics.vectors import prediction_vectors, reliability_of
from builder.evaluate.predict import (
    Forward,
    Predictions,
    device_of,
    oracle_auc,
    predict,
    served,
)
from builder.evaluate.slate_evaluation import (
    TEST_SLATES,
    Vectors,
    WholeSlates,
    choose_slates,
    evaluate_slates,
    size_groups,
)
from builder.ingest.events import Events
from builder.progress import Progress, silent
from models.base import CtrModel
from models.contract.calibration import Calibration

Rows = list[dict[str, float]]


@dataclass(frozen=True)
class Measured:
    """One forward of a model on the test period; the attributes are those of `Report`."""

    test: Metrics
    by_history: dict[str, Group]
    cuts: dict[str, dict[str, Group]]
    reliability: Rows
    vectors: Vectors
    oracle_auc: float | None = None
    uncalibrated: Metrics | None = None


def measure_model(
    model: CtrModel,
    source: BatchSource,
    slates: Slates,
    progress: Progress = silent,
    *,
    forward: Forward = served,
    is_lean: bool = False,
    count: int = TEST_SLATES,
    calibration: Calibration | None = None,
) -> Measured:
    """Measure a model on a part: on whole pools of a sample of its slates where the log has pools.

    Args:
        model: switched to evaluation mode.
        source: makes the batches.
        slates: of the part.
        progress: called after every batch.
        forward: makes the logits: `served` or `trained`.
        is_lean: no breakdowns.
        count: slates of the sample, in a log with pools.
        calibration: applied to the logits; None: none.
    """
    if source.has_pools:
        return _measure_pools(model, source, slates, progress, forward, count, calibration)
    keys = {} if is_lean else breakdown_keys(source.events)
    raw = predict(model, source, slates, forward, progress, list(keys.values()))
    measured = _measure_targets(raw.calibrated(calibration), keys, source.events, is_lean=is_lean)
    if calibration is None:
        return measured
    return replace(measured, uncalibrated=measure(*raw.for_metrics()))


def _measure_targets(
    predictions: Predictions,
    keys: Mapping[str, NDArray[np.integer]],
    events: Events,
    *,
    is_lean: bool,
) -> Measured:
    vectors = prediction_vectors(predictions)
    mixed = np.isfinite(vectors["gauc"])
    test = replace(
        measure(*predictions.for_metrics()),
        slate_gauc=float(vectors["gauc"][mixed].mean()) if mixed.any() else None,
        slates=len(mixed),
        mixed_slates=int(mixed.sum()),
    )
    return Measured(
        test,
        {} if is_lean else break_down_history(predictions),
        break_down(predictions, list(keys)) if keys else {},
        reliability_of(predictions),
        vectors,
        oracle_auc(events, predictions),
    )


def _measure_pools(
    model: CtrModel,
    source: BatchSource,
    slates: Slates,
    progress: Progress,
    forward: Forward,
    count: int,
    calibration: Calibration | None,
) -> Measured:
    model.eval()
    batches = whole_slates(source, slates, device_of(model), progress, count)
    catalogue = len(source.events.item_fields)
    report, vectors = evaluate_slates(partial(forward, model), batches, catalogue, calibration)
    uncalibrated = report.get("uncalibrated")
    return Measured(
        Metrics(**report["test"]),
        {name: Group(**group) for name, group in report["by_history"].items()},
        {
            cut: {name: Group(**group) for name, group in groups.items()}
            for cut, groups in report["cuts"].items()
        },
        report["reliability"],
        vectors,
        uncalibrated=Metrics(**uncalibrated) if uncalibrated else None,
    )


def whole_slates(
    source: BatchSource,
    slates: Slates,
    device: torch.device,
    progress: Progress = silent,
    count: int = TEST_SLATES,
) -> Iterator[WholeSlates]:
    """Whole pools of a fixed sample of slates on a device, those of equal size together.

    Args:
        source: of a log with pools.
        slates: of the part.
        device: where the batches go.
        progress: called after every batch.
        count: number of slates of the sample.
    """
    chosen = choose_slates(len(slates), count)
    groups = list(size_groups(source.pool_sizes(slates.at(chosen))))
    for done, group in enumerate(groups, 1):
        batch, targets = source.whole(slates, chosen[group])
        yield WholeSlates(batch.to(device), chosen[group], targets.user)
        progress(done, len(groups))
