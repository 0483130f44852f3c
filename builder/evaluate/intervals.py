"""95% intervals of metrics and of differences between two models, over users and over training seeds.

Users: a bootstrap draws users with replacement, since the slates of one user are not independent; both models of a
difference see the same draws. Seeds: the trainings of one model differ in weights and batches. The two are different
sources of error, so their variances add up:

    half² = (1.96 · s_users)² + (t · s_seeds / √n)²

where s_users is the standard deviation over draws of the mean over n seeds, s_seeds the standard deviation over seeds,
and t Student's quantile for n − 1 degrees of freedom. With one seed the second term is unknown and left out.

The AUC over all targets compares targets of different users. Its draws are replaced by their first-order expansion,
which is exact in the variance of a U-statistic up to 1/users (Obuchowski, "Nonparametric analysis of clustered ROC
curve data", Biometrics 1997): each slate contributes the share of all negatives below its positives (`won`) and the
share of all positives above its negatives (`lost`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from builder.evaluate.slate_evaluation import Vectors

DRAWS = 2000
NORMAL = 1.96
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""97.5% quantiles of Student's t for 1 … 9 degrees of freedom."""
METRICS = ("slate_gauc", "slate_gauc_repeat", "slate_gauc_new", "auc", "log_loss")
"""Metrics that have intervals."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A mean over seeds, or a mean difference.

    Attributes:
        mean: over seeds.
        half: half of the 95% interval.
        users: standard deviation over draws of users.
        seeds: standard deviation of the mean over seeds; None for one seed.
    """

    mean: float
    half: float
    users: float
    seeds: float | None

    @property
    def low(self) -> float:
        """Lower end."""
        return self.mean - self.half

    @property
    def high(self) -> float:
        """Upper end."""
        return self.mean + self.half


def interval(own: Sequence[Vectors], metric: str) -> Interval | None:
    """Interval of a metric; None if no slate has it.

    Args:
        own: vectors of each seed's training, on the same slates.
        metric: one of `METRICS`.

    Raises:
        ValueError: trainings were measured on different slates.
    """
    samples = [_sample(vectors, metric) for vectors in _same_slates(own)]
    if any(sample is None for sample in samples):
        return None
    return _combined([sample for sample in samples if sample is not None])


def difference(
    own: Mapping[int, Vectors], other: Mapping[int, Vectors], metric: str
) -> Interval | None:
    """Interval of a metric less that of another model; None if no slate has it, or no seed is common.

    Trainings with the same seed are paired. A model with one training that does not depend on a seed, as a baseline,
    is paired with all of the other's.

    Args:
        own: seed -> vectors of a training.
        other: the same of the other model, on the same slates.
        metric: one of `METRICS`.

    Raises:
        ValueError: trainings were measured on different slates.
    """
    pairs = [(own[seed], other[seed]) for seed in own if seed in other]
    if len(own) == 1 or len(other) == 1:
        pairs = [(left, right) for left in own.values() for right in other.values()]
    if not pairs:
        return None
    _same_slates([vectors for pair in pairs for vectors in pair])
    samples = []
    for left, right in pairs:
        a, b = _sample(left, metric), _sample(right, metric)
        if a is None or b is None:
            return None
        samples.append(_Sample(a.value - b.value, a.draws - b.draws))
    return _combined(samples)


@dataclass(frozen=True)
class _Sample:
    """A metric of one training: its value, and its values with users drawn, [DRAWS]."""

    value: float
    draws: Floats


def _combined(samples: Sequence[_Sample]) -> Interval:
    values, n = [sample.value for sample in samples], len(samples)
    users = float(np.std(np.mean([sample.draws for sample in samples], 0), ddof=1))
    if n == 1:
        return Interval(values[0], NORMAL * users, users, None)
    seeds = float(np.std(values, ddof=1) / np.sqrt(n))
    student = STUDENT[min(n - 1, len(STUDENT)) - 1]
    half = float(np.hypot(NORMAL * users, student * seeds))
    return Interval(float(np.mean(values)), half, users, seeds)


def _same_slates(several: Sequence[Vectors]) -> Sequence[Vectors]:
    for vectors in several[1:]:
        if not np.array_equal(vectors["slate"], several[0]["slate"]):
            raise ValueError(
                f"slates: got {len(vectors['slate'])} that differ from the first training's "
                f"{len(several[0]['slate'])}, expected the same"
            )
    return several


def _sample(vectors: Vectors, metric: str) -> _Sample | None:
    user = np.unique(vectors["user"], return_inverse=True)[1]
    weights = _weights(int(user.max()) + 1)

    def drawn(total: Floats, count: Floats) -> tuple[float, Floats]:
        """Ratio of two sums over slates, and the same with users drawn."""
        above, below = (weights @ np.bincount(user, values) for values in (total, count))
        return float(total.sum() / count.sum()), above / below

    if metric == "auc":
        positives = vectors["positives"].astype(np.float64)
        negatives = vectors["targets"] - positives
        if not positives.any() or not negatives.any():
            return None
        value, won = drawn(vectors["won"].astype(np.float64), positives)
        lost = drawn(vectors["lost"].astype(np.float64), negatives)
        return _Sample(value, won + lost[1] - lost[0])
    if metric == "log_loss":
        targets = vectors["targets"].astype(np.float64)
        return _Sample(*drawn(vectors["log_loss"] * targets, targets))
    name = metric.removeprefix("slate_")
    if name not in vectors or not np.isfinite(vectors[name]).any():
        return None
    there = np.isfinite(vectors[name])
    return _Sample(*drawn(np.where(there, vectors[name], 0.0), there.astype(np.float64)))


@lru_cache(maxsize=4)
def _weights(users: int) -> NDArray[np.float32]:
    """How often each user is drawn, [DRAWS, users]: the same draws for every model and metric."""
    rng = np.random.default_rng(0)
    counts = rng.multinomial(users, np.full(users, 1 / users), size=DRAWS)
    return np.asarray(counts, np.float32)
