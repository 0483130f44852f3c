"""Intervals against a bootstrap by loops, and against the spread of repeated experiments."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from builder.evaluate.intervals import DRAWS, difference, interval
from builder.evaluate.predict import Predictions
from builder.evaluate.prediction_vectors import prediction_vectors
from builder.evaluate.slate_evaluation import Vectors

USERS, SLATES, TARGETS = 60, 180, 12


class Log:
    """Targets of slates; users differ in how well a score tells their labels: their slates are not independent."""

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.user = np.sort(rng.integers(0, USERS, SLATES))
        self.slate = np.repeat(np.arange(SLATES), TARGETS)
        owner = self.user[self.slate]
        self.label = (rng.random(SLATES * TARGETS) < 0.25).astype(np.float32)
        ease = rng.normal(1.0, 1.0, USERS)[owner]
        level = rng.normal(0, 0.7, USERS)[owner]
        self.clean = ease * self.label + level + rng.normal(size=len(self.label)) - 1.5
        self.owner = owner

    def predictions(self, seed: int, noise: float) -> Predictions:
        rng = np.random.default_rng(seed)
        logit = self.clean + noise * rng.normal(size=len(self.clean))
        zeros = np.zeros(len(logit), np.int64)
        probability = 1 / (1 + np.exp(-logit))
        return Predictions(probability, self.label, self.owner, self.slate, zeros, zeros)

    def vectors(self, seed: int, noise: float) -> Vectors:
        return prediction_vectors(self.predictions(seed, noise))


def metric_of(found: Predictions, slates: np.ndarray, metric: str) -> float:
    """A metric of slates, which may be repeated."""
    rows = [np.flatnonzero(found.slate == slate) for slate in slates]
    chosen = np.concatenate(rows)
    label, probability = found.label[chosen], found.probability[chosen]
    if metric == "auc":
        return float(roc_auc_score(label, probability))
    if metric == "log_loss":
        p = np.where(label > 0, probability, 1 - probability)
        return float(-np.log(p).mean())
    aucs = [slate_auc(found.label[row], found.probability[row]) for row in rows]
    return float(np.nanmean(aucs))


def slate_auc(label: np.ndarray, probability: np.ndarray) -> float:
    high, low = probability[label > 0], probability[label == 0]
    return float((high[:, None] > low).mean()) if len(high) and len(low) else float("nan")


def looped_spread(log: Log, left: Predictions, right: Predictions | None, metric: str) -> float:
    """Standard deviation of a metric, or of a difference, over 200 draws of users."""
    rng = np.random.default_rng(5)
    users = np.unique(log.user)
    values = []
    for _ in range(200):
        drawn = rng.choice(users, len(users))
        slates = np.concatenate([np.flatnonzero(log.user == user) for user in drawn])
        value = metric_of(left, slates, metric)
        values.append(value - (metric_of(right, slates, metric) if right else 0))
    return float(np.std(values, ddof=1))


@pytest.mark.parametrize("metric", ["auc", "log_loss", "slate_gauc"])
def test_users_spread_as_in_a_bootstrap_of_loops(metric: str) -> None:
    log = Log()
    left, right = log.predictions(1, 0.3), log.predictions(2, 1.5)
    vectors = [prediction_vectors(found) for found in (left, right)]

    alone = interval(vectors[:1], metric)
    paired = difference({0: vectors[0]}, {0: vectors[1]}, metric)

    assert alone is not None
    assert paired is not None
    every = np.arange(SLATES)
    assert alone.mean == pytest.approx(metric_of(left, every, metric), abs=1e-9)
    expected = metric_of(left, every, metric) - metric_of(right, every, metric)
    assert paired.mean == pytest.approx(expected, abs=1e-9)
    assert alone.users == pytest.approx(looped_spread(log, left, None, metric), rel=0.2)
    assert paired.users == pytest.approx(looped_spread(log, left, right, metric), rel=0.2)
    assert paired.seeds is None
    assert paired.half == pytest.approx(1.96 * paired.users)


def test_pairing_removes_what_both_models_share() -> None:
    log = Log()
    left, right = log.vectors(1, 0.3), log.vectors(2, 0.3)
    alone, paired = interval([left], "auc"), difference({0: left}, {0: right}, "auc")
    assert alone is not None
    assert paired is not None
    assert paired.users < alone.users / 3


def test_the_variance_over_seeds_is_added() -> None:
    log = Log()
    own = {seed: log.vectors(seed, 1.0) for seed in range(3)}
    other = {seed: log.vectors(10 + seed, 1.0) for seed in range(3)}
    found = difference(own, other, "auc")
    assert found is not None
    gaps = [
        interval([own[seed]], "auc").mean - interval([other[seed]], "auc").mean  # type: ignore[union-attr]
        for seed in range(3)
    ]
    assert found.mean == pytest.approx(np.mean(gaps))
    assert found.seeds == pytest.approx(np.std(gaps, ddof=1) / 3**0.5)
    assert found.seeds is not None
    assert found.half**2 == pytest.approx((1.96 * found.users) ** 2 + (4.303 * found.seeds) ** 2)
    assert (found.low, found.high) == (found.mean - found.half, found.mean + found.half)


def test_intervals_cover_the_truth_in_most_repetitions() -> None:
    """Two models of equal quality on 40 logs: the interval of their difference holds 0 in nearly all."""
    held = 0
    for seed in range(40):
        log = Log(seed)
        found = difference({0: log.vectors(100, 1.0)}, {0: log.vectors(200, 1.0)}, "auc")
        assert found is not None
        held += found.low < 0 < found.high
    assert held >= 34


def test_a_baseline_is_paired_with_every_seed() -> None:
    log = Log()
    own, floor = {seed: log.vectors(seed, 0.5) for seed in (3, 4)}, {0: log.vectors(9, 2.0)}
    found = difference(own, floor, "slate_gauc")
    assert found is not None
    assert found.seeds is not None
    values = [interval([vectors], "slate_gauc").mean for vectors in (*own.values(), floor[0])]  # type: ignore[union-attr]
    assert found.mean == pytest.approx(np.mean(values[:2]) - values[2])


def test_without_common_seeds_there_is_no_difference() -> None:
    log = Log()
    own = {seed: log.vectors(seed, 0.5) for seed in (0, 1)}
    other = {seed: log.vectors(seed, 0.5) for seed in (2, 3)}
    assert difference(own, other, "auc") is None


def test_other_slates_are_refused() -> None:
    log = Log()
    vectors = log.vectors(0, 1.0)
    other = {**vectors, "slate": vectors["slate"] + 1}
    with pytest.raises(ValueError, match="slates: got 180 that differ from the first training's"):
        difference({0: vectors}, {0: other}, "auc")


def test_a_metric_that_no_slate_has_has_no_interval() -> None:
    vectors = Log().vectors(0, 1.0)
    assert interval([vectors], "slate_gauc_new") is None
    none = {**vectors, "positives": np.zeros(SLATES), "won": np.zeros(SLATES)}
    assert interval([none], "auc") is None


def test_draws_are_the_same_in_every_call() -> None:
    vectors = Log().vectors(0, 1.0)
    assert interval([vectors], "auc") == interval([vectors], "auc")
    assert DRAWS >= 1_000
