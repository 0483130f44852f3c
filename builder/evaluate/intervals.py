"""95% intervals of metrics and of differences between two models, over users and over training seeds.

Users: a bootstrap draws users with replacement, since the slates of one user are not independent; all trainings see the
same draws, so a difference is paired by user. Seeds: trainings with the same seed (first weights, batches) are paired,
and what remains is n differences, one for each seed. With users u and seeds s crossed, each of them is a sum of
independent effects (Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 2007):

    D_us = D + a_u + b_s + e_us,    Var(mean) = Var(a) / users + Var(b) / n + Var(e) / (users · n)

The first term is c, the covariance between the draws of two different seeds, mean over all pairs: a_u is what they
share. The variance over seeds, s² / n, holds the second and the third, and not the first: all seeds are measured on the
same users. So nothing is counted twice, as it would be with the variance over draws of the mean over seeds, which holds
the third term, too. The interval of the sum of two independent estimates is made of theirs (Zou and Donner,
"Construction of confidence limits about effect measures", Statistics in Medicine 2008):

    half² = 1.96² · max(c, 0) + t² · s² / n

with t Student's quantile for n − 1 degrees of freedom. Where one source dominates it covers 95%; where both are alike,
more (simulated: up to 97.5% with three seeds, 97% with five). Satterthwaite's degrees of freedom would be narrower, but
cover as little as 93.5% with three seeds. With one seed the second term is unknown and left out.

What the interval does not hold: items, stores and weeks are those of the test period; the search that chose the
settings was run once; one interval in twenty misses, so a table of fifty has some that do.

The AUC over all targets compares targets of different users. Its draws are replaced by their first-order expansion,
which is exact in the variance of a U-statistic up to 1/users (Obuchowski, "Nonparametric analysis of clustered ROC
curve data", Biometrics 1997): each slate contributes the share of all negatives below its positives (`won`) and the
share of all positives above its negatives (`lost`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from builder.evaluate.slate_evaluation import Vectors

DRAWS = 2000
NORMAL = 1.96
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""97.5% quantiles of Student's t for 1 … 9 degrees of freedom."""
AT_ONCE = 8_000_000
"""Largest number of counts, of draws × users, that are held in 8 bytes each at a time."""
SLATE_MEANS = (
    "slate_gauc", "slate_gauc_repeat", "slate_gauc_new", "slate_ndcg", "slate_recall",
)  # fmt: skip
METRICS = (*SLATE_MEANS, "auc", "gauc", "log_loss")
"""Metrics that have intervals."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A mean over seeds, or a mean difference.

    Attributes:
        mean: over seeds.
        half: half of the 95% interval.
        users: standard deviation due to the users that were measured, √c.
        seeds: standard deviation of the mean over seeds, s / √n; None for one seed.
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


@dataclass(frozen=True)
class Sample:
    """A metric of one training, or a difference: its value, and its values with users drawn, [DRAWS].

    A draw is NaN if none of its users has the metric.
    """

    value: float
    draws: Floats


@dataclass(frozen=True)
class Resampled:
    """What intervals need of one training.

    Attributes:
        slates: the measured slates.
        samples: metric -> its sample; without those that no slate has.
    """

    slates: NDArray[np.integer]
    samples: Mapping[str, Sample]


def resample(vectors: Vectors) -> Resampled:
    """Draw users for all metrics of a training at once: a matrix product, since a mean over slates is two sums."""
    user = np.unique(vectors["user"], return_inverse=True)[1]
    ratios = dict(_ratios(vectors))
    if not ratios:
        return Resampled(vectors["slate"], {})
    sums = [np.bincount(user, part) for pair in ratios.values() for part in pair]
    drawn = draw_users(np.stack(sums, 1))
    with np.errstate(invalid="ignore"):
        samples = {
            name: Sample(float(total.sum() / count.sum()), drawn[:, 2 * i] / drawn[:, 2 * i + 1])
            for i, (name, (total, count)) in enumerate(ratios.items())
        }
    if "won" in samples:
        won, lost = samples.pop("won"), samples.pop("lost")
        samples["auc"] = Sample(won.value, won.draws + lost.draws - lost.value)
    return Resampled(vectors["slate"], samples)


def interval(own: Sequence[Resampled], metric: str) -> Interval | None:
    """Interval of a metric; None if no slate has it.

    Args:
        own: each seed's training, on the same slates.
        metric: one of `METRICS`.

    Raises:
        ValueError: trainings were measured on different slates.
    """
    samples = [one.samples.get(metric) for one in _same_slates(own)]
    known = [sample for sample in samples if sample is not None]
    return _combined(known) if known and len(known) == len(samples) else None


def difference(
    own: Mapping[int, Resampled], other: Mapping[int, Resampled], metric: str
) -> Interval | None:
    """Interval of a metric less that of another model, of the seeds that both have; None if no slate or seed is common.

    Args:
        own: seed -> a training.
        other: the same of the other model, on the same slates.
        metric: one of `METRICS`.

    Raises:
        ValueError: trainings were measured on different slates.
    """
    return _paired([(own[seed], other[seed]) for seed in own if seed in other], metric)


def over_baseline(own: Sequence[Resampled], baseline: Resampled, metric: str) -> Interval | None:
    """Interval of a metric less that of a baseline, which was fitted once: its own fit is taken as it is.

    Args:
        own: each seed's training, on the baseline's slates.
        baseline: the baseline.
        metric: one of `METRICS`.

    Raises:
        ValueError: they were measured on different slates.
    """
    return _paired([(one, baseline) for one in own], metric)


def _paired(pairs: Sequence[tuple[Resampled, Resampled]], metric: str) -> Interval | None:
    _same_slates([one for pair in pairs for one in pair])
    samples = []
    for left, right in pairs:
        a, b = left.samples.get(metric), right.samples.get(metric)
        if a is None or b is None:
            return None
        samples.append(Sample(a.value - b.value, a.draws - b.draws))
    return _combined(samples) if samples else None


def _combined(samples: Sequence[Sample]) -> Interval:
    values, n = [sample.value for sample in samples], len(samples)
    draws = np.stack([sample.draws for sample in samples])
    covariance = np.atleast_2d(np.cov(draws[:, np.isfinite(draws).all(0)]))
    if n == 1:
        users = float(np.sqrt(covariance[0, 0]))
        return Interval(values[0], NORMAL * users, users, None)
    between = (covariance.sum() - np.trace(covariance)) / (n * (n - 1))
    users = float(np.sqrt(max(between, 0.0)))
    seeds = float(np.std(values, ddof=1) / np.sqrt(n))
    student = STUDENT[min(n - 1, len(STUDENT)) - 1]
    half = float(np.hypot(NORMAL * users, student * seeds))
    return Interval(float(np.mean(values)), half, users, seeds)


def _same_slates(several: Sequence[Resampled]) -> Sequence[Resampled]:
    for one in several[1:]:
        if not np.array_equal(one.slates, several[0].slates):
            raise ValueError(
                f"slates: got {len(one.slates)} that differ from the first training's "
                f"{len(several[0].slates)}, expected the same"
            )
    return several


def _ratios(vectors: Vectors) -> list[tuple[str, tuple[Floats, Floats]]]:
    """Name -> two numbers of each slate whose sums are divided: metrics, and the two halves of the AUC."""
    found = []
    for metric in SLATE_MEANS:
        values = vectors.get(metric.removeprefix("slate_"))
        if values is not None and np.isfinite(values).any():
            there = np.isfinite(values)
            found.append((metric, (np.where(there, values, 0.0).astype(np.float64), there * 1.0)))
    if "user_auc" in vectors:
        mixed = np.isfinite(vectors["user_auc"])
        weight = np.where(mixed, vectors["user_targets"], 0).astype(np.float64)
        if weight.any():
            found.append(("gauc", (weight * np.where(mixed, vectors["user_auc"], 0.0), weight)))
    targets = vectors["targets"].astype(np.float64)
    found.append(("log_loss", (vectors["log_loss"] * targets, targets)))
    positives = vectors["positives"].astype(np.float64)
    if positives.any() and (targets - positives).any():
        found.append(("won", (vectors["won"].astype(np.float64), positives)))
        found.append(("lost", (vectors["lost"].astype(np.float64), targets - positives)))
    return found


def draw_users(sums: Floats) -> Floats:
    """Sums over the users of each draw, [DRAWS, n], of sums of each user, [users, n]."""
    weights = _weights(len(sums))
    return np.concatenate([weights[part].astype(np.float64) @ sums for part in _chunks(len(sums))])


@lru_cache(maxsize=4)
def _weights(users: int) -> NDArray[np.uint16]:
    """How often each user is drawn, [DRAWS, users]: the same draws for every model and metric.

    A count is about Poisson(1): 2 bytes hold it.
    """
    rng, chance = np.random.default_rng(0), np.full(users, 1 / users)
    counts = np.empty((DRAWS, users), np.uint16)
    for part in _chunks(users):
        counts[part] = rng.multinomial(users, chance, size=part.stop - part.start)
    return counts


def _chunks(users: int) -> Iterator[slice]:
    """Draws whose counts are at most `AT_ONCE`, or one draw."""
    step = max(1, AT_ONCE // users)
    for start in range(0, DRAWS, step):
        yield slice(start, min(start + step, DRAWS))
