"""Fits calibrations on the validation part and keeps one only where it helps users and days that it was not fitted on.

A calibration is fitted on the past and applied to the future, where the base rate may be another. So each is judged by
the log loss of the later half of validation, under a fit on the earlier half without the target's own user; the one
that is kept is then fitted on all of validation. Folds of users alone would let it learn the base rate of the very days
that it is judged on.

Temperature scaling: Platt, "Probabilistic outputs for support vector machines", 1999, with the log odds scale · logit +
shift. Isotonic regression: Zadrozny and Elkan, KDD 2002, by pooling adjacent violators; blocks are joined by lines
through their middles instead of steps, as steps would tie candidates. Weights and sampling offsets are respected: both
are fitted to the task's own base rate.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from builder.dataset.batches import BatchSource, Slates
from builder.evaluate.logistic import fit_logistic
from builder.evaluate.predict import EVALUATION_SLATES, SEED, device_of, served
from builder.recipe.calibration import Method
from models.base import CtrModel
from models.contract.calibration import (
    Calibration,
    Isotonic,
    Temperature,
    calibration_to_dict,
)

FOLDS = 5
CLEAR = 2.0
"""Standard errors by which a method must lower the held-out log loss, to be kept."""
SLATES = 8_000
"""Largest number of validation slates that a calibration is fitted on."""
BINS = 40
"""Bins of the isotonic fit, half of them of equal weight of positives and half of negatives."""
RIDGE = 1e-6
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Fit = Callable[["Scores"], Calibration | None]


@dataclass(frozen=True)
class Scores:
    """Logits of N validation targets.

    Attributes:
        logit: of the served graph.
        label: 1 or 0.
        weight: in the loss.
        offset: what sampling adds to the log odds.
        user: of each target.
        ts_s: time of each target's slate; equal everywhere in a log without times.
    """

    logit: Floats
    label: Floats
    weight: Floats
    offset: Floats
    user: NDArray[np.int64]
    ts_s: NDArray[np.int64]

    def at(self, chosen: NDArray[np.bool_]) -> "Scores":
        """The chosen targets."""
        return Scores(
            *(
                getattr(self, name)[chosen]
                for name in ("logit", "label", "weight", "offset", "user", "ts_s")
            )
        )

    @property
    def full_weight(self) -> Floats:
        """Weight with which a target stands for those that were not sampled."""
        return np.asarray(self.weight * np.where(self.label > 0, 1.0, np.exp(self.offset)))

    def losses(self, calibration: Calibration | None) -> Floats:
        """Weighted cross-entropy of each target at the odds that sampling gave it."""
        log_odds = self.logit.copy()
        if calibration is not None:
            log_odds = calibration.log_odds(log_odds)
        log_odds = log_odds + self.offset
        return np.asarray(self.weight * (np.logaddexp(0, log_odds) - self.label * log_odds))


@dataclass(frozen=True)
class Gain:
    """How much a method lowers the held-out log loss.

    Attributes:
        over: the method that it is compared with.
        log_loss: by how much it is lower, mean over targets.
        error: its standard error over users; None with one user.
        is_kept: whether the method took the other's place.
    """

    over: str
    log_loss: float
    error: float | None
    is_kept: bool


@dataclass(frozen=True)
class Chosen:
    """What was fitted and kept.

    Attributes:
        calibration: that the artifact gets; None: none helps.
        held_out: method -> mean log loss on held-out targets, "none" included.
        gains: method -> its gain over the best simpler one; empty where the recipe names a method.
        targets: number of validation targets.
        judged: number of held-out targets.
        is_later: whether these are later than those of the fits; false if all targets have the same time, as in a log
            without times.
    """

    calibration: Calibration | None
    held_out: dict[str, float]
    gains: dict[str, Gain]
    targets: int
    judged: int
    is_later: bool

    def to_dict(self) -> dict[str, Any]:
        """In JSON types."""
        kept = None if self.calibration is None else calibration_to_dict(self.calibration)
        kind = "none" if self.calibration is None else self.calibration.kind
        return {"kind": kind, "kept": kept} | {
            name: value for name, value in asdict(self).items() if name != "calibration"
        }


def choose_calibration(scores: Scores, method: Method) -> Chosen:
    """Choose none or a calibration by held-out log loss, then fit it on all targets; a named method is kept.

    Args:
        scores: of the validation part.
        method: of the recipe.
    """
    fitted, judged, is_later = _parts(scores)
    held_out = scores.at(judged)
    losses = {"none": held_out.losses(None)}
    for name, fit in METHODS.items():
        losses[name] = _held_out(scores, fitted, judged, fit)
    best, gains = (method, {}) if method != "auto" else _best(losses, held_out)
    total = held_out.weight.sum()
    return Chosen(
        calibration=None if best == "none" else METHODS[best](scores),
        held_out={name: float(loss.sum() / total) for name, loss in losses.items()},
        gains=gains,
        targets=len(scores.label),
        judged=len(held_out.label),
        is_later=is_later,
    )


def _parts(scores: Scores) -> tuple[Mask, Mask, bool]:
    """Targets to fit on, targets to judge on, and whether the second are later.

    The split is at the median time, whose targets are later; where the first time holds half of the targets or more,
    they are earlier. If all times are equal, all targets are fitted on and judged.
    """
    middle = np.median(scores.ts_s)
    is_later = scores.ts_s >= middle
    if is_later.all():
        is_later = scores.ts_s > middle
    if not is_later.any():
        return ~is_later, ~is_later, False
    return ~is_later, is_later, True


def _best(losses: dict[str, Floats], held_out: Scores) -> tuple[str, dict[str, Gain]]:
    """The simplest method that no other is clearly better than."""
    best, gains = "none", {}
    for name in METHODS:  # the simpler one first: the other must be clearly better still
        gains[name] = _gain(losses, name, best, held_out)
        if gains[name].is_kept:
            best = name
    return best, gains


def _gain(losses: dict[str, Floats], name: str, over: str, held_out: Scores) -> Gain:
    """Gain of the method `name` over another: kept if above `CLEAR` standard errors of its sum over users."""
    _, index = np.unique(held_out.user, return_inverse=True)
    by_user = np.bincount(index, losses[over] - losses[name])
    gain, total = float(by_user.sum()), float(held_out.weight.sum())
    if len(by_user) < 2:
        return Gain(over, gain / total, None, False)
    error = float(by_user.std(ddof=1) * np.sqrt(len(by_user)))
    return Gain(over, gain / total, error / total, gain > CLEAR * error)


def fit_temperature(scores: Scores) -> Temperature | None:
    """Scale and shift with the lowest loss; None if the logits say nothing, or the opposite."""
    features = np.column_stack([scores.logit, np.ones(len(scores.logit))])
    scale, shift = fit_logistic(features, scores.label, scores.weight, scores.offset, RIDGE)
    return Temperature(float(scale), float(shift)) if scale > 0 else None


def fit_isotonic(scores: Scores) -> Isotonic | None:
    """Log odds of the pooled bins, in the middle of each; None if there are labels of one class only."""
    order = np.argsort(scores.logit, kind="stable")
    logit, label, weight = scores.logit[order], scores.label[order], scores.full_weight[order]
    positive, negative = weight * label, weight * (1 - label)
    if not positive.sum() or not negative.sum():
        return None
    share = np.cumsum(positive / positive.sum() + negative / negative.sum()) / 2
    bins = np.minimum((share * BINS).astype(int), BINS - 1)
    sums = np.stack([np.bincount(bins, part) for part in (positive, negative, weight * logit)], 1)
    blocks = _pooled(sums[sums[:, :2].sum(1) > 0])
    # Half a target of each class more: a block of one class has finite odds.
    log_odds = np.log((blocks[:, 0] + 0.5) / (blocks[:, 1] + 0.5))
    middle = blocks[:, 2] / blocks[:, :2].sum(1)
    kept = [0]
    for place in range(1, len(blocks)):
        if log_odds[place] > log_odds[kept[-1]] and middle[place] > middle[kept[-1]]:
            kept.append(place)
    return Isotonic(tuple(middle[kept].tolist()), tuple(log_odds[kept].tolist()))


METHODS: dict[str, Fit] = {"temperature": fit_temperature, "isotonic": fit_isotonic}


def _pooled(sums: Floats) -> Floats:
    """Adjacent bins are joined until the share of positives rises: rows of positives, negatives, weight · logit."""
    blocks: list[Floats] = []
    for row in sums:
        blocks.append(row)
        while len(blocks) > 1 and _rate(blocks[-2]) >= _rate(blocks[-1]):
            last = blocks.pop()
            blocks[-1] = blocks[-1] + last
    return np.stack(blocks)


def _rate(block: Floats) -> float:
    return float(block[0] / (block[0] + block[1]))


def _held_out(scores: Scores, fitted: Mask, judged: Mask, fit: Fit) -> Floats:
    """Losses of the judged targets, each under a fit without the targets of its user's fold."""
    _, index = np.unique(scores.user, return_inverse=True)
    fold = np.random.default_rng(0).permutation(int(index.max()) + 1)[index] % FOLDS
    losses = np.zeros(len(index))
    for place in range(FOLDS):
        mine, others = judged & (fold == place), fitted & (fold != place)
        if mine.any():
            calibration = fit(scores.at(others)) if others.any() else None
            losses[mine] = scores.at(mine).losses(calibration)
    return losses[judged]


def validation_scores(model: CtrModel, source: BatchSource, slates: Slates) -> Scores:
    """Logits of the validation part: of all its slates, or of a fixed sample of `SLATES`.

    Args:
        model: switched to evaluation mode.
        source: makes the batches; with pools, candidates are sampled, with weights and offsets.
        slates: of the validation part.
    """
    chosen = np.sort(np.random.default_rng(SEED).permutation(len(slates))[:SLATES])
    parts, part, device = [], slates.at(chosen), device_of(model)
    model.eval()
    epoch = source.epoch(part, EVALUATION_SLATES, np.random.default_rng(SEED), shuffle=False)
    with torch.inference_mode():
        for batch, targets in epoch:
            logit = torch.nan_to_num(served(model, batch.to(device)).double()).cpu()
            offset = batch.offset.expand_as(batch.label)
            columns = (logit, batch.label.double(), batch.weight.double(), offset.double())
            ts_s = source.events.ts_s[part.first[targets.slate]]
            rows = (
                np.broadcast_to(row[:, None], targets.mask.shape) for row in (targets.user, ts_s)
            )
            parts.append([column[targets.mask] for column in (*map(Tensor.numpy, columns), *rows)])
    return Scores(*(np.concatenate(column) for column in zip(*parts, strict=True)))
