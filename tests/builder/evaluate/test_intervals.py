"""Intervals against a bootstrap by loops, and their coverage in repeated experiments."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from builder.evaluate import intervals
from builder.evaluate.intervals import (
    DRAWS,
    Interval,
    Resampled,
    difference,
    interval,
    over_baseline,
    resample,
)
from builder.evaluate.metrics.vectors import prediction_vectors
from builder.evaluate.predict import Predictions
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

    def resampled(self, seed: int, noise: float) -> Resampled:
        return resample(self.vectors(seed, noise))


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
    both = [resample(prediction_vectors(found)) for found in (left, right)]

    alone = interval(both[:1], metric)
    paired = difference({0: both[0]}, {0: both[1]}, metric)

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
    left, right = log.resampled(1, 0.3), log.resampled(2, 0.3)
    alone, paired = interval([left], "auc"), difference({0: left}, {0: right}, "auc")
    assert alone is not None
    assert paired is not None
    assert paired.users < alone.users / 3


def test_half_is_made_of_the_covariance_of_seeds_and_their_variance() -> None:
    log = Log()
    own = {seed: log.resampled(seed, 1.0) for seed in range(3)}
    other = {seed: log.resampled(10 + seed, 1.0) for seed in range(3)}
    found = difference(own, other, "auc")
    assert found is not None
    gaps = [own[seed].samples["auc"].value - other[seed].samples["auc"].value for seed in range(3)]
    draws = [own[seed].samples["auc"].draws - other[seed].samples["auc"].draws for seed in range(3)]
    shared = np.mean([np.cov(draws[a], draws[b])[0, 1] for a, b in ((0, 1), (0, 2), (1, 2))])
    assert found.mean == pytest.approx(np.mean(gaps))
    assert found.seeds == pytest.approx(np.std(gaps, ddof=1) / 3**0.5)
    assert found.users == pytest.approx(max(shared, 0) ** 0.5)
    assert found.seeds is not None
    assert found.half**2 == pytest.approx((1.96 * found.users) ** 2 + (4.303 * found.seeds) ** 2)
    assert (found.low, found.high) == (found.mean - found.half, found.mean + found.half)


class Crossed:
    """Differences of two models by user and seed: the sum of effects with these standard deviations of the mean.

    Args:
        user: of the effect of the users, the same in every seed.
        seed: of the effect of one seed, the same for every user.
        both: of the effect of one seed on users.
    """

    USERS = 150

    def __init__(self, user: float, seed: float, both: float) -> None:
        self.user, self.seed, self.both = user, seed, both

    def difference(self, seeds: int, rng: np.random.Generator) -> Interval | None:
        """Of one experiment; the true difference is 0."""
        size = self.USERS**0.5
        shared = self.user * size * rng.normal(size=self.USERS)
        own, other = {}, {}
        for seed in range(seeds):
            base = rng.normal(size=self.USERS)  # what both models share
            gap = shared + self.seed * rng.normal()
            gap = gap + self.both * size * rng.normal(size=self.USERS)
            own[seed], other[seed] = _of_users(base + gap), _of_users(base)
        return difference(own, other, "log_loss")


def _of_users(values: np.ndarray) -> Resampled:
    """A training with one slate for each user."""
    users = np.arange(len(values))
    one = np.ones(len(values))
    vectors = {"slate": users, "user": users, "targets": one, "positives": 0 * one}
    return resample({**vectors, "log_loss": values})


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize(
    ("effects", "highest"),
    [
        (Crossed(1.0, 0.0, 0.0), 0.95),
        (Crossed(0.0, 1.0, 0.0), 0.95),
        (Crossed(0.0, 0.0, 1.0), 0.95),
        (Crossed(1.0, 0.5, 0.5), 0.98),
        (Crossed(0.5, 1.0, 1.0), 0.98),
    ],
    ids=["users", "seeds", "seeds on users", "mostly users", "mostly seeds"],
)
def test_intervals_cover_the_truth_in_95_of_100(
    effects: Crossed, highest: float, seeds: int
) -> None:
    """As often as stated, within three standard errors of the share of 600 experiments; more where sources mix."""
    rng = np.random.default_rng(seeds)
    repetitions = 600
    found = [effects.difference(seeds, rng) for _ in range(repetitions)]
    covered = np.mean([one is not None and one.low < 0 < one.high for one in found])
    error = 3 * (0.95 * 0.05 / repetitions) ** 0.5
    assert 0.95 - error <= covered <= highest + error


def test_what_seeds_do_to_users_is_not_counted_twice() -> None:
    """Without effects of users, the interval is Student's over seeds: √c is near 0."""
    rng = np.random.default_rng(0)
    effects = Crossed(0.0, 0.0, 1.0)
    found = [effects.difference(5, rng) for _ in range(100)]
    assert np.mean([one.users**2 for one in found if one]) < 0.1
    assert np.mean([one.seeds**2 for one in found if one and one.seeds]) == pytest.approx(
        0.2, rel=0.2
    )


def test_a_baseline_is_paired_with_every_seed() -> None:
    log = Log()
    own, floor = [log.resampled(seed, 0.5) for seed in (3, 4)], log.resampled(9, 2.0)
    found = over_baseline(own, floor, "slate_gauc")
    assert found is not None
    assert found.seeds is not None
    values = [one.samples["slate_gauc"].value for one in (*own, floor)]
    assert found.mean == pytest.approx(np.mean(values[:2]) - values[2])


def test_only_common_seeds_are_compared() -> None:
    log = Log()
    own = {seed: log.resampled(seed, 0.5) for seed in (0, 1, 2)}
    found = difference(own, {2: log.resampled(9, 0.5)}, "auc")
    assert found is not None
    assert found.seeds is None


def test_without_common_seeds_there_is_no_difference() -> None:
    log = Log()
    own = {seed: log.resampled(seed, 0.5) for seed in (0, 1)}
    other = {seed: log.resampled(seed, 0.5) for seed in (2, 3)}
    assert difference(own, other, "auc") is None


def test_other_slates_are_refused() -> None:
    log = Log()
    vectors = log.vectors(0, 1.0)
    other = resample({**vectors, "slate": vectors["slate"] + 1})
    with pytest.raises(ValueError, match="slates: got 180 that differ from the first training's"):
        difference({0: resample(vectors)}, {0: other}, "auc")


def test_a_metric_that_no_slate_has_has_no_interval() -> None:
    vectors = Log().vectors(0, 1.0)
    assert interval([resample(vectors)], "slate_gauc_new") is None
    none = {**vectors, "positives": np.zeros(SLATES), "won": np.zeros(SLATES)}
    assert interval([resample(none)], "auc") is None


def test_draws_are_the_same_in_every_call() -> None:
    vectors = Log().vectors(0, 1.0)
    assert interval([resample(vectors)], "auc") == interval([resample(vectors)], "auc")
    assert DRAWS >= 1_000


def test_draws_without_a_user_that_has_the_metric_are_left_out() -> None:
    """Two users of thirty have it: about one draw in eight holds neither."""
    log = Log()
    trainings = {seed: log.vectors(seed, 0.3) for seed in range(2)}
    users = np.unique(log.user)[:2]
    for vectors in trainings.values():
        vectors["gauc"] = np.where(np.isin(vectors["user"], users), vectors["gauc"], np.nan)
    own = {seed: resample(vectors) for seed, vectors in trainings.items()}
    draws = own[0].samples["slate_gauc"].draws
    there = np.isfinite(draws)
    assert 0.05 < 1 - there.mean() < 0.25

    alone, both = interval([own[0]], "slate_gauc"), interval(list(own.values()), "slate_gauc")
    paired = difference({0: own[0]}, {0: own[1]}, "slate_gauc")

    assert alone is not None
    assert both is not None
    assert paired is not None
    other = own[1].samples["slate_gauc"].draws
    assert alone.users == pytest.approx(draws[there].std(ddof=1))
    assert both.users == pytest.approx(np.cov(draws[there], other[there])[0, 1] ** 0.5)
    assert paired.users == pytest.approx((draws - other)[there].std(ddof=1))


def test_draws_in_chunks_are_those_of_one_product(monkeypatch: pytest.MonkeyPatch) -> None:
    users = 70
    rng = np.random.default_rng(0)
    counts = rng.multinomial(users, np.full(users, 1 / users), size=DRAWS)
    sums = np.random.default_rng(1).normal(size=(users, 5))
    monkeypatch.setattr(intervals, "AT_ONCE", 333 * users)
    intervals._weights.cache_clear()

    weights = intervals._weights(users)

    assert weights.dtype == np.uint16
    assert np.array_equal(weights, counts)
    assert intervals.draw_users(sums) == pytest.approx(counts @ sums, rel=1e-12, abs=1e-12)
