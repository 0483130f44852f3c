"""Metrics of click predictions, each with its definition and its edge cases."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import log_loss, roc_auc_score

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
    """

    auc: float
    gauc: float
    log_loss: float
    pcoc: float
    ece: float
    targets: int
    positives: int


def measure(
    probability: NDArray[np.floating], label: NDArray[np.floating], user: NDArray[np.integer]
) -> Metrics:
    """Metrics of predictions.

    Raises:
        ValueError: there is no target, or all labels are equal.
    """
    if len(np.unique(label)) < 2:
        raise ValueError(f"labels: got {len(label)} targets of one class, expected both classes")
    return Metrics(
        auc=float(roc_auc_score(label, probability)),
        gauc=grouped_auc(probability, label, user),
        log_loss=float(log_loss(label, np.clip(probability, 1e-7, 1 - 1e-7))),
        pcoc=float(probability.sum() / label.sum()),
        ece=calibration_error(probability, label),
        targets=len(label),
        positives=int(label.sum()),
    )


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
