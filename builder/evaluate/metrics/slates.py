"""Metrics of each slate, computed on the slates' device. Needs torch and numpy only.

A slate is one request: for a log with pools, one basket's whole pool, some thousand candidates. GAUC per slate asks how
well a request is ranked, which is what a service does; an AUC over all targets also compares candidates of different
requests.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from builder.evaluate.metrics.groups import age_groups
from models.contract.age import NUM_AGES
from models.contract.schema import PADDING

TOP = 10
"""Places of a ranking that NDCG and recall look at."""
NO_EVENT = NUM_AGES
"""Age of an item without an event, above every real bucket."""


@dataclass(frozen=True)
class SlateMetrics:
    """Metrics of each slate; NaN where a slate lacks the candidates that a metric compares.

    Attributes:
        gauc: AUC of the slate's candidates.
        gauc_repeat: AUC of its positives that are in the history against all of its negatives.
        gauc_new: AUC of its positives that are not in the history against all of its negatives.
        gauc_inside: AUC of the candidates that are in the history.
        log_loss: mean over its candidates, nats.
        ndcg: NDCG@10 with gain 1.
        recall: share of its positives among the first ten.
        above: of each positive candidate, the share of the slate's negatives below it, ties counted one half; NaN
            at other candidates.
    """

    gauc: Float[Tensor, "B"]
    gauc_repeat: Float[Tensor, "B"]
    gauc_new: Float[Tensor, "B"]
    gauc_inside: Float[Tensor, "B"]
    log_loss: Float[Tensor, "B"]
    ndcg: Float[Tensor, "B"]
    recall: Float[Tensor, "B"]
    above: Float[Tensor, "B C"]


def measure_slates(
    logit: Float[Tensor, "B C"],
    label: Float[Tensor, "B C"],
    is_real: Bool[Tensor, "B C"],
    is_repeat: Bool[Tensor, "B C"],
) -> SlateMetrics:
    """Metrics of whole slates.

    Args:
        logit: of each candidate, finite.
        label: 1 where the candidate was clicked or bought.
        is_real: false at padding.
        is_repeat: true where the candidate is in the history.
    """
    is_positive = is_real & (label > 0)
    is_negative = is_real & (label == 0)
    above = _share_below(logit, is_negative)
    inside = _share_below(logit, is_negative & is_repeat)
    ndcg, recall = _top_metrics(logit, is_positive, is_real)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logit, label, reduction="none")
    return SlateMetrics(
        gauc=_mean(above, is_positive),
        gauc_repeat=_mean(above, is_positive & is_repeat),
        gauc_new=_mean(above, is_positive & ~is_repeat),
        gauc_inside=_mean(inside, is_positive & is_repeat),
        log_loss=_mean(loss, is_real),
        ndcg=ndcg,
        recall=recall,
        above=above.masked_fill(~is_positive, torch.nan),
    )


def sampled_auc(
    logit: Float[Tensor, "B C"], label: Float[Tensor, "B C"], weight: Float[Tensor, "B C"]
) -> Float[Tensor, "B"]:
    """AUC of each slate's sampled candidates, those of weight 0 left out; NaN where one class is missing.

    Negatives are compared alike, so they should be drawn uniformly.
    """
    is_there = weight > 0
    return _mean(_share_below(logit, is_there & (label == 0)), is_there & (label > 0))


def latest_ages(
    items: Int[Tensor, "B C"],
    history: Int[Tensor, "B L"],
    ages: Int[Tensor, "B L"],
    catalogue: int,
) -> Int[Tensor, "B C"]:
    """Age bucket of the latest event with each candidate; `NO_EVENT` where it is not in the history.

    Args:
        items: catalogue rows of the candidates.
        history: catalogue rows of the events, `PADDING` where there is none.
        ages: bucket of each event.
        catalogue: number of catalogue rows.
    """
    latest = torch.full((len(history), catalogue), NO_EVENT, device=history.device)
    ages = ages.masked_fill(history == PADDING, NO_EVENT)
    return latest.scatter_reduce(1, history, ages, "amin").gather(1, items)


def repeats(
    items: Int[Tensor, "B C"], history: Int[Tensor, "B L"], catalogue: int
) -> Bool[Tensor, "B C"]:
    """Whether each candidate is in the history."""
    seen = torch.zeros(len(history), catalogue, dtype=torch.bool, device=history.device)
    seen.scatter_(1, history, True)
    seen[:, PADDING] = False
    return seen.gather(1, items)


def age_group_table(device: torch.device) -> Int[Tensor, "A"]:
    """Group (index into `AGES`) of each age bucket; of `NO_EVENT`, the group "never"."""
    buckets = np.append(np.arange(NUM_AGES), PADDING)
    return torch.from_numpy(age_groups(buckets)).to(device)


def _share_below(
    logit: Float[Tensor, "B C"], is_other: Bool[Tensor, "B C"]
) -> Float[Tensor, "B C"]:
    """Share of the slate's `is_other` candidates below each candidate, ties counted one half; NaN without others."""
    below, upto = _counts_below(logit, is_other)
    return (below + upto).to(logit.dtype) / (2 * is_other.sum(1, keepdim=True))


def _counts_below(
    logit: Float[Tensor, "B C"], is_other: Bool[Tensor, "B C"]
) -> tuple[Int[Tensor, "B C"], Int[Tensor, "B C"]]:
    """Number of the slate's `is_other` candidates below each candidate; and of those not above it."""
    others = logit.masked_fill(~is_other, torch.inf).sort(1).values.contiguous()
    values = logit.contiguous()
    return torch.searchsorted(others, values), torch.searchsorted(others, values, right=True)


def _top_metrics(
    logit: Float[Tensor, "B C"], is_positive: Bool[Tensor, "B C"], is_real: Bool[Tensor, "B C"]
) -> tuple[Float[Tensor, "B"], Float[Tensor, "B"]]:
    """NDCG and recall of the first `TOP` places; NaN without a positive.

    Candidates with equal logits share their places: the mean over all orders of them (McSherry and Najork, "Computing
    information retrieval performance measures efficiently in the presence of tied scores", 2008).
    """
    below, upto = _counts_below(logit, is_real)
    count = is_real.sum(1, keepdim=True)
    first, last = (count - upto).clamp(max=TOP), (count - below).clamp(max=TOP)
    ties = (upto - below).clamp(min=1)
    gain = 1 / torch.log2(torch.arange(2, TOP + 2, device=logit.device, dtype=logit.dtype))
    total = torch.cat([gain.new_zeros(1), gain.cumsum(0)])
    gains, hits = (total[last] - total[first]) / ties, (last - first) / ties
    positives = is_positive.sum(1)
    ndcg = gains.masked_fill(~is_positive, 0).sum(1) / total[positives.clamp(max=TOP)]
    return ndcg, _mean(hits, is_positive)


def _mean(values: Float[Tensor, "B C"], chosen: Bool[Tensor, "B C"]) -> Float[Tensor, "B"]:
    return values.masked_fill(~chosen, 0).sum(1) / chosen.sum(1)
