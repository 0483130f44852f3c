"""Metrics over whole pools, computed on the device."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

BINS = 20
TOP = 10


@dataclass(frozen=True)
class VisitMetrics:
    """Metrics of each visit; NaN where a visit has no candidate of a class (or kind).

    Attributes:
        gauc: AUC of the visit's candidates.
        gauc_repeat: AUC of its positives that are in the history against all negatives.
        gauc_new: AUC of its positives that are not in the history against all negatives.
        gauc_inside: AUC of the candidates that are in the history.
        log_loss: mean over its candidates, nats.
        ndcg: NDCG@10 with gain 1.
        recall: share of its positives among the first ten.
    """

    gauc: Float[Tensor, "B"]
    gauc_repeat: Float[Tensor, "B"]
    gauc_new: Float[Tensor, "B"]
    gauc_inside: Float[Tensor, "B"]
    log_loss: Float[Tensor, "B"]
    ndcg: Float[Tensor, "B"]
    recall: Float[Tensor, "B"]


def sampled_auc(logit: Float[Tensor, "B C"], label: Tensor, weight: Tensor) -> Float[Tensor, "B"]:
    """AUC of each visit's sampled candidates (label 1 first, weight 0 for none); NaN without positives."""
    wins = _wins(logit, logit)
    pairs = ((label > 0) & (weight > 0))[:, :, None] & (label == 0)[:, None]
    return (wins * pairs).sum((1, 2)) / pairs.sum((1, 2))


def measure_visits(
    logit: Float[Tensor, "B C"],
    label: Float[Tensor, "B C"],
    is_real: Bool[Tensor, "B C"],
    is_repeat: Bool[Tensor, "B C"],
    most: int,
) -> VisitMetrics:
    """Metrics of whole pools.

    Args:
        logit: of each candidate.
        label: 1: bought.
        is_real: false at padding.
        is_repeat: true where the candidate is in the history.
        most: largest number of positives of a visit.
    """
    logit = logit.masked_fill(~is_real, -torch.inf)
    bought = label.sum(1)
    place = label.topk(min(most, label.shape[1]), sorted=False).indices
    is_positive = label.gather(1, place) > 0  # (B, P)
    negatives = is_real & (label == 0)
    wins = _wins(logit.gather(1, place), logit)  # (B, P, C)
    repeat = is_repeat.gather(1, place)
    best = logit.topk(min(TOP, logit.shape[1])).indices
    hits = label.gather(1, best)
    gain = 1 / torch.log2(torch.arange(2, best.shape[1] + 2, device=logit.device))
    ideal = torch.cat([gain.new_zeros(1), gain.cumsum(0)])
    loss = torch.nn.functional.binary_cross_entropy_with_logits(
        logit.masked_fill(~is_real, 0), label, reduction="none"
    )
    return VisitMetrics(
        gauc=_auc_against(wins, is_positive, negatives),
        gauc_repeat=_auc_against(wins, is_positive & repeat, negatives),
        gauc_new=_auc_against(wins, is_positive & ~repeat, negatives),
        gauc_inside=_auc_against(wins, is_positive & repeat, negatives & is_repeat),
        log_loss=(loss * is_real).sum(1) / is_real.sum(1),
        ndcg=(hits * gain).sum(1) / ideal[bought.long().clamp(max=len(ideal) - 1)],
        recall=hits.sum(1) / bought,
    )


def _auc_against(
    wins: Float[Tensor, "B P C"], positives: Bool[Tensor, "B P"], negatives: Bool[Tensor, "B C"]
) -> Float[Tensor, "B"]:
    """Share of pairs that the positive wins; NaN without pairs."""
    won = (wins * negatives[:, None]).sum(2)
    return (won * positives).sum(1) / (positives.sum(1) * negatives.sum(1))


def _wins(left: Float[Tensor, "B P"], right: Float[Tensor, "B C"]) -> Float[Tensor, "B P C"]:
    """1 where left is above right, ½ where they are equal."""
    above = (left[:, :, None] > right[:, None]).float()
    return above + 0.5 * (left[:, :, None] == right[:, None])


def overall(logits: Sequence[Tensor], labels: Sequence[Tensor]) -> dict[str, float]:
    """AUC, log loss, PCOC and ECE (20 bins of equal count) of all candidates together."""
    logit, label = torch.cat(list(logits)).double(), torch.cat(list(labels)).double()
    probability = logit.sigmoid()
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logit, label)
    order = logit.argsort()
    pieces = zip(
        probability[order].tensor_split(BINS), label[order].tensor_split(BINS), strict=True
    )
    gap = sum(float((p.sum() - y.sum()).abs()) for p, y in pieces)
    return {
        "auc": _auc(logit[order], label[order]),
        "log_loss": float(loss),
        "pcoc": float(probability.sum() / label.sum()),
        "ece": gap / len(label),
        "candidates": len(label),
        "positives": int(label.sum()),
    }


def _auc(logit: Float[Tensor, "N"], label: Float[Tensor, "N"]) -> float:
    """Mann-Whitney U with mid-ranks, of rising logits."""
    _, group, size = torch.unique_consecutive(logit, return_inverse=True, return_counts=True)
    last = size.cumsum(0).double()
    rank = (last - (size - 1) / 2)[group]
    positives = label.sum()
    pairs = positives * (len(label) - positives)
    return float(((rank * label).sum() - positives * (positives + 1) / 2) / pairs)


def repeats(
    items: Int[Tensor, "B C"], rows: Int[Tensor, "B L"], catalogue: int
) -> Bool[Tensor, "B C"]:
    """Whether each candidate is in the history."""
    seen = torch.zeros(len(rows), catalogue, dtype=torch.bool, device=rows.device)
    seen.scatter_(1, rows, True)
    seen[:, 0] = False
    return seen.gather(1, items)
