"""A network's metrics: quickly on sampled candidates of validation visits, in full on whole pools of test visits."""

from dataclasses import asdict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from builder.experiments.promotions.metrics import (
    measure_visits,
    overall,
    repeats,
    sampled_auc,
)
from builder.experiments.promotions.network import Network
from builder.experiments.promotions.prepared import Prepared
from builder.experiments.promotions.task import MAX_POSITIVES, Slates, Task

VALIDATION_VISITS, VALIDATION_NEGATIVES, CHUNK = 1536, 100, 64
TEST_VISITS = 4096
CANDIDATES_AT_ONCE = 20_000
SEED = 7
VISIT_METRICS = ("gauc", "gauc_repeat", "gauc_new", "gauc_inside", "ndcg", "recall")
"""Metrics whose mean over visits is reported; NaN leaves a visit out."""


def validation_slates(task: Task, visits: int = VALIDATION_VISITS) -> list[Slates]:
    """The same visits with positives and the same candidates for every model and seed, in chunks."""
    part = task.parts["validation"]
    bought = task.positive_first[part + 1] - task.positive_first[part]
    part = part[bought > 0]
    generator = torch.Generator().manual_seed(SEED)
    order = torch.randperm(len(part), generator=generator)[:visits]
    chosen = part[order.to(task.device)]
    draws = torch.rand(len(chosen), 1 + VALIDATION_NEGATIVES, generator=generator).to(task.device)
    ones = torch.ones(len(chosen), device=task.device)
    return [
        task.sample(v, w, d)
        for v, w, d in zip(*(torch.split(x, CHUNK) for x in (chosen, ones, draws)), strict=True)
    ]


@torch.no_grad()
def validate(network: Network, slates: list[Slates]) -> dict[str, float]:
    """GAUC per visit and log loss (corrected for sampling) on sampled candidates."""
    network.eval()
    aucs, losses = [], []
    for part in slates:
        logit = network(part) + part.offset
        aucs.append(sampled_auc(logit, part.label, part.weight))
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            logit, part.label, part.weight, reduction="none"
        )
        losses.append(loss.sum(1) / part.weight.sum(1))
    return {"gauc": float(torch.cat(aucs).nanmean()), "log_loss": float(torch.cat(losses).mean())}


def visits_of(prepared: Prepared, part: str, count: int) -> NDArray[np.int64]:
    """A fixed random sample of a part's visits, with and without positives."""
    visits = prepared.part(part)
    chosen = np.random.default_rng(SEED).permutation(visits)[:count]
    return np.sort(chosen)


@torch.no_grad()
def evaluate(
    network: Network, task: Task, visits: NDArray[np.int64]
) -> tuple[dict[str, float], dict[str, NDArray[np.float32]]]:
    """Metrics over whole pools: of all candidates together with means over visits, and of each visit."""
    network.eval()
    at = torch.from_numpy(visits).to(task.device)
    order = task.pool_size[at].argsort()
    logits, labels, columns = [], [], []
    for part in _groups(order, task.pool_size[at].cpu().numpy()):
        size = int(task.pool_size[at[part]].max())
        slates, is_real = task.whole(at[part], size)
        logit = network(slates)
        repeated = repeats(slates.items, slates.rows, len(task.item_fields))
        metrics = measure_visits(logit, slates.label, is_real, repeated, MAX_POSITIVES)
        columns.append(asdict(metrics))
        logits.append(logit[is_real])
        labels.append(slates.label[is_real])
    back = order.argsort().cpu().numpy()
    per_visit = {
        name: torch.cat([column[name] for column in columns]).float().cpu().numpy()[back]
        for name in columns[0]
    }
    means = {name: float(np.nanmean(values)) for name, values in per_visit.items()}
    return overall(logits, labels) | {name: means[name] for name in VISIT_METRICS}, per_visit


def _groups(order: Tensor, sizes: NDArray[np.int64]) -> list[Tensor]:
    """Visits of about the same pool size, so many at once that a group has some 20,000 candidates."""
    groups, start = [], 0
    sorted_sizes = sizes[order.cpu().numpy()]
    while start < len(order):
        stop = start + 1
        while stop < len(order) and sorted_sizes[stop] * (stop + 1 - start) <= CANDIDATES_AT_ONCE:
            stop += 1
        groups.append(order[start:stop])
        start = stop
    return groups
