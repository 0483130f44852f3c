"""Targets of the newest days that both models scored, and the sums over users that metrics are made of."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from builder.dataset.batches import BatchSource, Slates
from builder.dataset.parts import batch_source, part_slates
from builder.evaluate.measure import whole_slates
from builder.evaluate.metrics.pooled import group_aucs
from builder.evaluate.predict import EVALUATION_SLATES, SEED
from builder.evaluate.slate_evaluation import choose_slates
from builder.gate.scoring import ArtifactScorer
from builder.ingest.events import Events
from builder.progress import Progress, silent
from builder.recipe.recipe import Recipe
from models.batch import Batch

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
CPU = torch.device("cpu")
CLIP = 1e-7
"""Probabilities are kept this far from 0 and 1, as in `metrics.targets.log_loss`."""


@dataclass(frozen=True)
class Scored:
    """Real targets of some slates, [N] each.

    Attributes:
        user: index of the user.
        slate: index of the slate.
        label: 1 for a click or purchase, else 0.
        log_odds: calibrated log odds of each model, [models, N].
        has_pools: the log has pools: GAUC is per slate, and per user otherwise.
        ts_s: epoch second of the oldest and of the newest slate.
    """

    user: Ints
    slate: Ints
    label: Floats
    log_odds: Floats
    has_pools: bool
    ts_s: tuple[int, int]

    @property
    def slates(self) -> int:
        """Number of slates."""
        return len(np.unique(self.slate))


def score_targets(
    scorers: Sequence[ArtifactScorer],
    events: Events,
    recipe: Recipe,
    slates: Slates | None,
    count: int,
    progress: Progress = silent,
) -> Scored:
    """Score the same targets with several artifacts.

    Args:
        scorers: of the artifacts.
        events: the log, with histories long enough for all of them.
        recipe: how candidates are drawn.
        slates: to choose from; None: all of the test part.
        count: largest number of slates, a fixed random sample.
        progress: called after every batch.
    """
    source = batch_source(events, recipe, "test")
    slates = part_slates(events, recipe, "test") if slates is None else slates
    columns: list[tuple[NDArray[np.generic], ...]] = []
    for batch, user, slate in _batches(source, slates, count, progress):
        mask = batch.mask.numpy()
        odds = np.stack([scorer.log_odds(batch)[mask] for scorer in scorers])
        user, slate = (np.broadcast_to(x[:, None], mask.shape)[mask] for x in (user, slate))
        columns.append((user, slate, batch.label.numpy()[mask].astype(np.float64), odds.T))
    user, slate, label, odds = (np.concatenate(column) for column in zip(*columns, strict=True))
    begin = np.asarray(events.ts_s)[slates.begin[np.unique(slate)]]
    times = (int(begin.min()), int(begin.max()))
    return Scored(user, slate, label, np.ascontiguousarray(odds.T), source.has_pools, times)


def _batches(
    source: BatchSource, slates: Slates, count: int, progress: Progress
) -> Iterator[tuple[Batch, Ints, Ints]]:
    """Batches of a fixed sample of slates, with the user and the index of each."""
    if source.has_pools:
        for whole in whole_slates(source, slates, CPU, progress, count):
            yield whole.batch, whole.user, whole.slate
        return
    chosen = choose_slates(len(slates), count)
    rng, total = np.random.default_rng(SEED), -(-len(chosen) // EVALUATION_SLATES)
    for done in range(total):
        some = chosen[done * EVALUATION_SLATES : (done + 1) * EVALUATION_SLATES]
        batch, targets = source.batch(slates, some, rng)
        yield batch, targets.user, some
        progress(done + 1, total)


@dataclass(frozen=True)
class Sums:
    """Sums over the targets of each of U users; metrics are ratios of their totals.

    Attributes:
        targets: number of targets, [U].
        clicks: number of positives, [U].
        weight: weight in the GAUC, [U].
        loss: log loss of each model, [models, U].
        auc: AUC times weight, [models, U].
        predicted: predicted clicks, [models, U].
    """

    targets: Floats
    clicks: Floats
    weight: Floats
    loss: Floats
    auc: Floats
    predicted: Floats

    def columns(self) -> Floats:
        """All of them as columns, [U, 3 + 3 · models], for `draw_users`."""
        return np.concatenate(
            [
                np.stack([self.targets, self.clicks, self.weight]),
                self.loss,
                self.auc,
                self.predicted,
            ]
        ).T


def user_sums(scored: Scored) -> Sums:
    """Sums of scores that are finite."""
    users, place = np.unique(scored.user, return_inverse=True)
    size = len(users)
    probability = np.clip(1 / (1 + np.exp(-np.clip(scored.log_odds, -700, 700))), CLIP, 1 - CLIP)
    losses = -np.where(scored.label > 0, np.log(probability), np.log1p(-probability))
    aucs = [_auc_sums(scored, odds, place, size) for odds in scored.log_odds]
    return Sums(
        _floats(np.bincount(place, minlength=size)),
        _floats(np.bincount(place, scored.label, size)),
        aucs[0][1],
        np.stack([np.bincount(place, loss, size) for loss in losses]),
        np.stack([total for total, _ in aucs]),
        np.stack([np.bincount(place, p, size) for p in probability]),
    )


def _auc_sums(scored: Scored, odds: Floats, place: Ints, users: int) -> tuple[Floats, Floats]:
    """AUC times weight, and weight, of each user: slates with both labels count alike, users by their targets."""
    group = scored.slate if scored.has_pools else place
    names, index = np.unique(group, return_inverse=True)
    owner = np.zeros(len(names), np.int64)
    owner[index] = place
    aucs, size = group_aucs(
        torch.from_numpy(odds), torch.from_numpy(scored.label).float(), torch.from_numpy(index)
    )
    values = aucs.numpy()
    is_mixed = np.isfinite(values)
    weight = is_mixed * (1.0 if scored.has_pools else size.numpy())
    won = np.where(is_mixed, values, 0.0) * weight
    return _floats(np.bincount(owner, won, users)), _floats(np.bincount(owner, weight, users))


def _floats(values: NDArray[np.generic]) -> Floats:
    return values.astype(np.float64)
