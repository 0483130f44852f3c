"""Metrics of the candidates of all slates together, computed on their device. Needs torch and numpy only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

BINS = 20
"""Bins of equal count of the calibration error."""
RELIABILITY_EDGES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99, 0.999, 1.0)
"""Quantiles of the prediction that bound the rows of a reliability table: deciles, and the top 1% and 0.1%, which hold
most positives where few candidates are clicked."""


@dataclass(frozen=True)
class Pooled:
    """Candidates of all slates, [N] each.

    Attributes:
        logit: of each candidate, finite.
        label: 1 or 0.
        slate: number of its slate, 0 … S − 1.
    """

    logit: Float[Tensor, "N"]
    label: Float[Tensor, "N"]
    slate: Int[Tensor, "N"]


def overall(pooled: Pooled, user: Int[Tensor, "S"]) -> dict[str, float]:
    """Metrics of all candidates together: the definitions of `metrics.py`.

    Args:
        pooled: candidates of all slates.
        user: of each slate.

    Returns:
        auc, gauc (per user), log_loss (mean over candidates), pcoc, ece, targets, positives. AUC is NaN if all labels
        are equal, GAUC if no user has both.
    """
    logit, label = pooled.logit, pooled.label.double()
    probability = logit.double().sigmoid()
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logit.double(), label)
    return {
        "auc": float(auc(logit, pooled.label)),
        "gauc": grouped_auc(logit, pooled.label, user[pooled.slate]),
        "log_loss": float(loss),
        "pcoc": float(probability.sum() / label.sum()),
        "ece": calibration_error(logit, label),
        "targets": len(label),
        "positives": int(label.sum()),
    }


def auc(logit: Float[Tensor, "N"], label: Float[Tensor, "N"]) -> Float[Tensor, ""]:
    """Area under the ROC curve, ties counted one half; NaN if all labels are equal."""
    positive = label > 0
    return share_below(logit[positive], logit[~positive]).mean()


def share_below(values: Float[Tensor, "N"], others: Float[Tensor, "M"]) -> Float[Tensor, "N"]:
    """Share of `others` below each value, ties counted one half, float64; NaN without others."""
    ordered = others.sort().values
    below = torch.searchsorted(ordered, values)
    upto = torch.searchsorted(ordered, values, right=True)
    return (below + upto).double() / (2 * len(others))


def grouped_auc(
    logit: Float[Tensor, "N"], label: Float[Tensor, "N"], group: Int[Tensor, "N"]
) -> float:
    """Mean AUC within groups, weighted by the groups' candidates; NaN if no group has both labels."""
    aucs, size = group_aucs(logit, label, group)
    mixed = aucs.isfinite()
    return float((aucs * size)[mixed].sum() / size[mixed].sum())


def group_aucs(
    logit: Float[Tensor, "N"], label: Float[Tensor, "N"], group: Int[Tensor, "N"]
) -> tuple[Float[Tensor, "G"], Int[Tensor, "G"]]:
    """AUC of each group that is there, groups rising, NaN where it has one label; and the groups' candidates."""
    order = logit.argsort()
    order = order[group[order].argsort(stable=True)]
    logit, group, positive = logit[order], group[order], (label[order] > 0).double()
    own, size = _runs(group[1:] != group[:-1])
    tie, count = _runs((group[1:] != group[:-1]) | (logit[1:] != logit[:-1]))
    last = count.cumsum(0).double()
    first = size.cumsum(0) - size
    rank = (last - (count - 1) / 2)[tie] - first[own]  # mid-rank within the group, from 1
    zeros = torch.zeros(len(size), dtype=torch.float64, device=logit.device)
    positives = zeros.index_add(0, own, positive)
    won = zeros.index_add(0, own, rank * positive) - positives * (positives + 1) / 2
    return won / (positives * (size - positives)), size


def _runs(is_new: Bool[Tensor, "M"]) -> tuple[Int[Tensor, "N"], Int[Tensor, "R"]]:
    """Number of the run that each of N = M + 1 ordered elements belongs to, and the runs' lengths."""
    run = torch.cat([is_new.new_zeros(1), is_new]).cumsum(0)
    return run, torch.bincount(run)


def calibration_error(logit: Float[Tensor, "N"], label: Float[Tensor, "N"]) -> float:
    """Mean absolute difference of predicted and observed rate over `BINS` bins of equal count."""
    probability, label = _by_prediction(logit, label)
    pieces = zip(probability.tensor_split(BINS), label.tensor_split(BINS), strict=True)
    gaps = [float((predicted.sum() - observed.sum()).abs()) for predicted, observed in pieces]
    return sum(gaps) / len(label)


def _by_prediction(
    logit: Float[Tensor, "N"], label: Float[Tensor, "N"]
) -> tuple[Float[Tensor, "N"], Float[Tensor, "N"]]:
    """Rising probabilities and their labels; equal predictions get the mean of their labels: any order will do."""
    order = logit.argsort()
    logit, label = logit[order], label[order].double()
    run, size = _runs(logit[1:] != logit[:-1])
    mean = torch.bincount(run, weights=label) / size
    return logit.double().sigmoid(), mean[run]


def reliability(logit: Float[Tensor, "N"], label: Float[Tensor, "N"]) -> list[dict[str, float]]:
    """Predicted against observed rates, in bins between the quantiles of the prediction `RELIABILITY_EDGES`.

    Returns:
        Rows of from, to (quantiles), targets, positives (equal predictions share theirs), predicted (mean probability)
        and observed (share of positives); bins without a candidate are left out.
    """
    probability, label = _by_prediction(logit, label)
    ends = [round(edge * len(label)) for edge in RELIABILITY_EDGES]
    rows = []
    for place, (begin, end) in enumerate(pairwise(ends)):
        if end > begin:
            rows.append(
                {
                    "from": RELIABILITY_EDGES[place],
                    "to": RELIABILITY_EDGES[place + 1],
                    "targets": end - begin,
                    "positives": float(label[begin:end].sum()),
                    "predicted": float(probability[begin:end].mean()),
                    "observed": float(label[begin:end].mean()),
                }
            )
    return rows


def by_group(
    pooled: Pooled,
    above: Float[Tensor, "N"],
    group: Int[Tensor, "N"],
    names: Sequence[str],
) -> Mapping[str, Mapping[str, Any]]:
    """Metrics of groups of candidates. Every group with a candidate is shown, those of one class too.

    Args:
        pooled: candidates of all slates.
        above: of each positive, the share of its slate's negatives below it; NaN at other candidates.
        group: of each candidate, an index into `names`.
        names: of the groups.

    Returns:
        Group -> auc (of its own candidates; None if they are of one class), slate_auc (mean of `above` over its
        positives: each is compared with all negatives of its slate; None without a positive), targets, positives,
        share (of positives).
    """
    groups = {}
    for place, name in enumerate(names):
        chosen = group == place
        targets = int(chosen.sum())
        if not targets:
            continue
        label = pooled.label[chosen]
        positives = int(label.sum())
        groups[name] = {
            "auc": _finite(auc(pooled.logit[chosen], label)),
            "slate_auc": _finite(above[chosen].double().nanmean()),
            "targets": targets,
            "positives": positives,
            "share": positives / targets,
        }
    return groups


def placements(pooled: Pooled, slates: int) -> tuple[Float[Tensor, "S"], Float[Tensor, "S"]]:
    """What each slate contributes to the AUC over all candidates.

    Args:
        pooled: candidates of all slates.
        slates: S.

    Returns:
        Of each slate, the sum over its positives of the share of all negatives below them, and the sum over its
        negatives of the share of all positives above them; ties count one half. Either sum, over all slates and
        divided by the number of positives (negatives), is the AUC. `intervals.py` resamples them.
    """
    positive = pooled.label > 0
    high, low = pooled.logit[positive], pooled.logit[~positive]
    zeros = torch.zeros(slates, dtype=torch.float64, device=pooled.logit.device)
    won = zeros.index_add(0, pooled.slate[positive], share_below(high, low))
    lost = zeros.index_add(0, pooled.slate[~positive], 1 - share_below(low, high))
    return won, lost


def _finite(value: Tensor) -> float | None:
    return float(value) if bool(value.isfinite()) else None
