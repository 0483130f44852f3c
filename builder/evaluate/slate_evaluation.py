"""Whole slates through a model: metrics, groups, reliability, and a small file of each slate's metrics.

Everything runs on the device of the batches and needs torch and numpy only: a comparison on a GPU calls it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from builder.evaluate.metrics.groups import AGES, history_groups
from builder.evaluate.metrics.pooled import Pooled, by_group, overall, placements, reliability
from builder.evaluate.metrics.slates import (
    NO_EVENT,
    SlateMetrics,
    age_group_table,
    latest_ages,
    measure_slates,
)
from models.batch import Batch
from models.contract.calibration import Calibration
from models.contract.schema import PADDING

Vectors = dict[str, NDArray[Any]]
CANDIDATES_AT_ONCE = 20_000
"""Candidates of a batch, padding included."""
TEST_SLATES = 4096
"""Slates of whole pools that a test measures."""
SEED = 7
AGE_CUT = "age of the latest event with the same item"
REPEAT_CUT = "whether the item is in the history"
REPEATS = ("new", "bought before")
HALF_DROPPED = np.uint32(1 << 11)
"""Half of the last kept bit of a float32's mantissa: 11 of its 23 bits are kept."""
SLATE_MEANS = ("gauc", "gauc_repeat", "gauc_new", "gauc_inside", "ndcg", "recall")
"""Metrics whose mean over slates is reported, as `slate_gauc` and so on; NaN leaves a slate out."""


@dataclass(frozen=True)
class WholeSlates:
    """Whole slates on a device, offset 0.

    Attributes:
        batch: their candidates, padded to the longest.
        slate: number of each slate in its part.
        user: of each slate.
    """

    batch: Batch
    slate: NDArray[np.int64]
    user: NDArray[np.int64]


def choose_slates(slates: int, count: int = TEST_SLATES) -> NDArray[np.int64]:
    """A fixed random sample of a part's slates, rising: the same in every training."""
    return np.sort(np.random.default_rng(SEED).permutation(slates)[:count])


def size_groups(
    sizes: NDArray[np.integer], at_once: int = CANDIDATES_AT_ONCE
) -> Iterator[NDArray[np.int64]]:
    """Places of slates of about the same size, so many at once that a group has at most `at_once` candidates."""
    order = np.argsort(sizes, kind="stable")
    start = 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and sizes[order[stop]] * (stop + 1 - start) <= at_once:
            stop += 1
        yield order[start:stop]
        start = stop


@torch.no_grad()
def evaluate_slates(
    forward: Callable[[Batch], Tensor],
    batches: Iterable[WholeSlates],
    catalogue: int,
    calibration: Calibration | None = None,
) -> tuple[dict[str, Any], Vectors]:
    """Metrics over whole slates.

    Args:
        forward: batch -> logits, [B, C]; the model is in evaluation mode. NaN, of a diverged model, counts as 0.
        batches: whole slates, in any order.
        catalogue: number of catalogue rows.
        calibration: applied to the logits; None: none.

    Returns:
        A report in JSON types: "test" (`overall`, and slate_gauc and other means over slates), "cuts" and
        "by_history" (`by_group`), "reliability", and, with a calibration, "uncalibrated" (`overall`). And the vectors
        that `save_vectors` writes, slates rising.
    """
    parts = [_measure_batch(forward, whole, catalogue, calibration) for whole in batches]
    metrics = {
        name: torch.cat([getattr(part.metrics, name) for part in parts]).double().cpu().numpy()
        for name in (field.name for field in fields(SlateMetrics))
        if name != "above"
    }
    columns = {name: torch.cat([part.columns[name] for part in parts]) for name in parts[0].columns}
    sizes = [len(part.slate) for part in parts]
    firsts = np.cumsum([0, *sizes[:-1]])
    place = torch.cat([part.place + int(first) for part, first in zip(parts, firsts, strict=True)])
    pooled = Pooled(columns["logit"], columns["label"], place)
    vectors = _vectors(parts, pooled, metrics)
    report = _report(pooled, columns, vectors)
    if calibration is not None:
        user = torch.from_numpy(vectors["user"]).to(place.device)
        report["uncalibrated"] = overall(replace(pooled, logit=columns["raw"]), user)
    return report, _in_order(vectors)


@dataclass(frozen=True)
class _Part:
    """Measured slates of one batch: metrics of each slate, columns of their real candidates."""

    metrics: SlateMetrics
    columns: dict[str, Tensor]
    place: Tensor
    slate: NDArray[np.int64]
    user: NDArray[np.int64]
    history: Tensor


def _measure_batch(
    forward: Callable[[Batch], Tensor],
    whole: WholeSlates,
    catalogue: int,
    calibration: Calibration | None,
) -> _Part:
    batch = whole.batch
    raw = torch.nan_to_num(forward(batch).float())
    logit = raw if calibration is None else _calibrated(raw, calibration)
    ages = latest_ages(batch.slate.items, batch.user.history, batch.user.ages, catalogue)
    is_repeat = ages != NO_EVENT
    metrics = measure_slates(logit, batch.label, batch.mask, is_repeat)
    real = batch.mask
    rows = torch.arange(len(logit), device=logit.device)[:, None].expand_as(logit)
    columns = {
        "logit": logit[real],
        "label": batch.label[real],
        "above": metrics.above[real],
        "age": age_group_table(logit.device)[ages[real]].to(torch.int8),
        "repeat": is_repeat[real].to(torch.int8),
    }
    if calibration is not None:
        columns["raw"] = raw[real]
    history = (batch.user.history != PADDING).sum(1)
    return _Part(metrics, columns, rows[real], whole.slate, whole.user, history)


def _calibrated(logit: Tensor, calibration: Calibration) -> Tensor:
    log_odds = calibration.log_odds(logit.double().cpu().numpy().copy())
    return torch.from_numpy(log_odds).to(logit.device, logit.dtype)


def _vectors(parts: Sequence[_Part], pooled: Pooled, metrics: Vectors) -> Vectors:
    slate = np.concatenate([part.slate for part in parts])
    won, lost = placements(pooled, len(slate))
    counts = torch.bincount(pooled.slate, minlength=len(slate))
    positives = torch.bincount(pooled.slate, weights=pooled.label.double(), minlength=len(slate))
    return metrics | {
        "slate": slate,
        "user": np.concatenate([part.user for part in parts]),
        "history": torch.cat([part.history for part in parts]).cpu().numpy(),
        "targets": counts.cpu().numpy(),
        "positives": positives.long().cpu().numpy(),
        "won": won.cpu().numpy(),
        "lost": lost.cpu().numpy(),
    }


def _report(pooled: Pooled, columns: dict[str, Tensor], vectors: Vectors) -> dict[str, Any]:
    user = torch.from_numpy(vectors["user"]).to(pooled.logit.device)
    means = {f"slate_{name}": _nanmean(vectors[name]) for name in SLATE_MEANS}
    test = overall(pooled, user) | means
    test |= {
        "slates": len(vectors["slate"]),
        "mixed_slates": int(np.isfinite(vectors["gauc"]).sum()),
    }
    names, history = history_groups(vectors["history"])
    by_slate = torch.from_numpy(history).to(pooled.logit.device)
    above = columns["above"]
    return {
        "test": test,
        "cuts": {
            AGE_CUT: by_group(pooled, above, columns["age"], AGES),
            REPEAT_CUT: by_group(pooled, above, columns["repeat"], REPEATS),
        },
        "by_history": by_group(pooled, above, by_slate[pooled.slate], names),
        "reliability": reliability(pooled.logit, pooled.label),
    }


def save_vectors(vectors: Vectors, path: Path) -> None:
    """Write the metrics of each slate, about 20 bytes a slate: what intervals over users need (`intervals.py`).

    Numbers are rounded to 11 bits of mantissa, 2e-4 of their size, which compresses well; a mean over thousands of
    slates moves by about 3e-6. The file is complete or not there.
    """
    small = {name: _narrow(values) for name, values in vectors.items()}
    staged = path.with_suffix(".new.npz")
    np.savez_compressed(staged, **small)  # type: ignore[arg-type]
    staged.replace(path)


def load_vectors(path: Path) -> Vectors:
    """Read what `save_vectors` wrote."""
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _narrow(values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype.kind != "f":
        return values.astype(np.int32)
    bits = values.astype(np.float32).view(np.uint32)
    is_finite = np.isfinite(values)
    rounded = np.where(is_finite, bits + HALF_DROPPED, bits) & ~np.uint32(2 * HALF_DROPPED - 1)
    return rounded.view(np.float32)


def _in_order(vectors: Vectors) -> Vectors:
    order = np.argsort(vectors["slate"], kind="stable")
    return {name: values[order] for name, values in vectors.items()}


def _nanmean(values: NDArray[np.floating]) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None
