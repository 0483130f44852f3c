"""Metrics of click predictions, each with its definition and its edge cases. Needs numpy only.

`slates.py` and `pooled.py` compute the same and more on a device, for whole pools.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from builder.errors import StepError

BINS = 20


@dataclass(frozen=True)
class Metrics:
    """Metrics of one set of predictions.

    Attributes:
        auc: area under the ROC curve over all targets.
        gauc: AUC within each user's targets, averaged with the number of targets as weight; users whose targets all
            have one label are left out (their AUC does not exist).
        log_loss: mean binary cross-entropy, nats.
        pcoc: predicted clicks over observed clicks; 1 is calibrated.
        ece: expected calibration error over `BINS` bins of equal count.
        targets: number of targets.
        positives: number of clicked targets.
        slate_gauc: AUC within each slate's targets, mean over the slates that have both labels, each counting alike;
            None where it was not measured.
        slate_gauc_repeat: the same, of positives that are in the history against all negatives of their slate. These
            and the next metrics are for logs with pools, whose slates are whole; None for others.
        slate_gauc_new: the same, of positives that are not in the history.
        slate_gauc_inside: the same, of the targets that are in the history.
        slate_ndcg: NDCG@10 with gain 1, mean over the slates with a positive.
        slate_recall: share of a slate's positives among its first ten, mean over the slates with a positive.
        slates: number of slates.
        mixed_slates: number of slates that have both labels.
    """

    auc: float
    gauc: float
    log_loss: float
    pcoc: float
    ece: float
    targets: int
    positives: int
    slate_gauc: float | None = None
    slate_gauc_repeat: float | None = None
    slate_gauc_new: float | None = None
    slate_gauc_inside: float | None = None
    slate_ndcg: float | None = None
    slate_recall: float | None = None
    slates: int | None = None
    mixed_slates: int | None = None


def measure(
    probability: NDArray[np.floating], label: NDArray[np.floating], user: NDArray[np.integer]
) -> Metrics:
    """Metrics of predictions.

    Raises:
        StepError: there is no target, or all labels are equal.
    """
    if len(np.unique(label)) < 2:
        raise StepError(f"labels: got {len(label)} targets of one class, expected both classes")
    return Metrics(
        auc=auc(probability, label),
        gauc=grouped_auc(probability, label, user),
        log_loss=log_loss(probability, label),
        pcoc=float(probability.sum() / label.sum()),
        ece=calibration_error(probability, label),
        targets=len(label),
        positives=int(label.sum()),
    )


def auc(probability: NDArray[np.floating], label: NDArray[np.floating]) -> float:
    """AUC of all targets, ties counted one half; NaN if all labels are equal."""
    return grouped_auc(probability, label, np.zeros(len(label), np.int64))


def log_loss(probability: NDArray[np.floating], label: NDArray[np.floating]) -> float:
    """Mean binary cross-entropy, nats; probabilities are kept 1e-7 away from 0 and 1."""
    p = np.clip(probability.astype(np.float64), 1e-7, 1 - 1e-7)
    return float(-np.where(label > 0, np.log(p), np.log1p(-p)).mean())


def grouped_auc(
    probability: NDArray[np.floating], label: NDArray[np.floating], user: NDArray[np.integer]
) -> float:
    """GAUC; NaN if no user has both labels. Ties count one half."""
    order = np.lexsort((probability, user))
    p, y, u = probability[order], label[order], user[order]
    starts = np.flatnonzero(np.r_[True, u[1:] != u[:-1]])
    total, weight = 0.0, 0
    for begin, end in zip(starts, np.r_[starts[1:], len(u)], strict=True):
        if 0 < y[begin:end].sum() < end - begin:
            total += (end - begin) * _sorted_auc(p[begin:end], y[begin:end])
            weight += end - begin
    return float(total / weight) if weight else float("nan")


def _sorted_auc(p: NDArray[np.floating], y: NDArray[np.floating]) -> float:
    """Mann-Whitney U with mid-ranks, for ascending `p`."""
    low = np.searchsorted(p, p, side="left")
    high = np.searchsorted(p, p, side="right")
    rank = (low + high + 1) / 2
    positives = y.sum()
    negatives = len(y) - positives
    return float((rank[y > 0].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def calibration_error(probability: NDArray[np.floating], label: NDArray[np.floating]) -> float:
    """Mean absolute difference of predicted and observed rate over bins of equal count."""
    order = np.argsort(probability, kind="stable")
    bins = [part for part in np.array_split(order, BINS) if len(part)]
    gaps = [abs(probability[part].mean() - label[part].mean()) * len(part) for part in bins]
    return float(sum(gaps) / len(order))
