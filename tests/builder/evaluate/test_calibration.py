"""Calibrations are found where they are needed, left out where they are not, and fitted to the real base rate."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from builder.dataset.batches import BatchSource, find_slates
from builder.evaluate.calibration import (
    Scores,
    choose_calibration,
    fit_isotonic,
    fit_temperature,
    validation_scores,
)
from builder.recipe.sampling import SamplingRule
from models.contract.calibration import Isotonic, Temperature
from tests.builder.evaluate.test_measure import RowModel, log_with_pools
from tests.builder.hand_made import Event, make_events

N = 20_000


def scores_of(truth: np.ndarray, logit: np.ndarray, seed: int = 0, keep: float = 1.0) -> Scores:
    """Labels drawn with the log odds `truth`; of the negatives a share `keep` is there, with its offset.

    Targets are one second apart.
    """
    rng = np.random.default_rng(seed)
    label = (rng.random(len(truth)) < 1 / (1 + np.exp(-truth))).astype(float)
    there = (label > 0) | (rng.random(len(truth)) < keep)
    ones = np.ones(there.sum())
    user = rng.integers(0, 400, len(truth))
    offset, ts_s = ones * -np.log(keep), np.flatnonzero(there)
    return Scores(logit[there], label[there], ones, offset, user[there], ts_s)


@pytest.fixture
def truth() -> np.ndarray:
    return np.random.default_rng(1).normal(-2, 1.5, N)


def test_temperature_is_the_logistic_regression_on_the_logit(truth: np.ndarray) -> None:
    scores = scores_of(truth, 2 * truth + 1)

    found = fit_temperature(scores)

    assert found is not None
    model = LogisticRegression(C=1e9, tol=1e-10).fit(scores.logit[:, None], scores.label)
    assert found.scale == pytest.approx(model.coef_[0, 0], abs=1e-3)
    assert found.shift == pytest.approx(model.intercept_[0], abs=1e-3)
    assert (found.scale, found.shift) == pytest.approx((0.5, -0.5), abs=0.08)


@pytest.mark.parametrize("keep", [1.0, 0.1])
@pytest.mark.parametrize("fit", [fit_temperature, fit_isotonic])
def test_the_base_rate_is_that_of_the_task_however_it_is_sampled(
    truth: np.ndarray, fit, keep: float
) -> None:
    found = fit(scores_of(truth, 2 * truth + 1, keep=keep))

    calibrated = 1 / (1 + np.exp(-found.log_odds(2 * truth + 1)))
    right = 1 / (1 + np.exp(-truth))
    assert calibrated.mean() == pytest.approx(right.mean(), rel=0.1)
    assert np.abs(calibrated - right).mean() < 0.02


def test_isotonic_points_follow_scikit_learns_steps(truth: np.ndarray) -> None:
    scores = scores_of(truth, np.where(truth > -2, 3 * truth + 4, truth))

    found = fit_isotonic(scores)

    assert found is not None
    steps = IsotonicRegression(out_of_bounds="clip").fit(scores.logit, scores.label)
    at = np.quantile(scores.logit, np.linspace(0.02, 0.98, 50))
    got = 1 / (1 + np.exp(-found.log_odds(at.copy())))
    assert got == pytest.approx(steps.predict(at), abs=0.05)


def test_a_calibrated_model_gets_none(truth: np.ndarray) -> None:
    kept = [
        choose_calibration(scores_of(truth, truth, seed), "auto").calibration for seed in range(8)
    ]

    assert kept.count(None) >= 7


def test_a_scaled_model_gets_a_temperature(truth: np.ndarray) -> None:
    found = choose_calibration(scores_of(truth, 2 * truth + 1), "auto")

    assert isinstance(found.calibration, Temperature)
    assert found.held_out["temperature"] < found.held_out["none"]
    assert found.gains["temperature"].is_kept
    assert found.gains["isotonic"].over == "temperature"
    assert not found.gains["isotonic"].is_kept
    assert found.to_dict()["kind"] == "temperature"
    assert (found.targets, found.judged, found.is_later) == (N, N / 2, True)


def test_a_bent_model_gets_an_isotonic_map(truth: np.ndarray) -> None:
    found = choose_calibration(
        scores_of(truth, np.where(truth > -2, 6 * truth + 10, truth)), "auto"
    )

    assert isinstance(found.calibration, Isotonic)
    assert found.held_out["isotonic"] < found.held_out["temperature"] < found.held_out["none"]


def test_a_base_rate_of_the_first_days_alone_is_not_kept(truth: np.ndarray) -> None:
    """A fit on all days would help other users of the same days, and hurt the days that come."""
    scores = scores_of(truth + np.where(np.arange(N) < N / 2, 0.8, 0), truth)
    by_users_alone = choose_calibration(replace(scores, ts_s=np.zeros(N, int)), "auto")
    assert by_users_alone.calibration is not None

    found = choose_calibration(scores, "auto")

    assert found.calibration is None
    assert found.held_out["none"] < found.held_out["temperature"]
    assert found.gains["temperature"].log_loss < 0


def two_days(first: float) -> Scores:
    """A share `first` of the targets is of a day of base rate .5, the rest of the next, of .2; the model says .5."""
    day = (np.arange(N) >= first * N).astype(int)
    odds = np.where(day == 0, 0.0, np.log(0.2 / 0.8))
    logit = np.random.default_rng(2).normal(0, 0.1, N)
    return replace(scores_of(odds, logit), ts_s=86_400 * day)


@pytest.mark.parametrize("first", [0.45, 0.5, 0.55])
def test_the_later_of_two_days_is_judged_whichever_is_larger(first: float) -> None:
    found = choose_calibration(two_days(first), "auto")

    assert found.is_later
    assert found.judged == pytest.approx((1 - first) * N)
    assert found.held_out["none"] == pytest.approx(np.log(2), abs=0.02)
    # A fit on both days would know the second day's rate, and lower the loss by about .1.
    assert found.held_out["temperature"] == pytest.approx(found.held_out["none"], abs=0.02)


def test_targets_of_one_time_are_all_fitted_and_all_judged() -> None:
    found = choose_calibration(replace(two_days(0.55), ts_s=np.full(N, 7)), "auto")

    assert (found.is_later, found.judged) == (False, N)


def test_what_is_kept_is_fitted_on_all_days(truth: np.ndarray) -> None:
    odds = truth + np.where(np.arange(N) < N / 2, 0.8, 0.6)
    scores = scores_of(odds, truth)

    assert choose_calibration(scores, "auto").calibration == fit_temperature(scores)


def test_without_times_users_alone_are_held_out(truth: np.ndarray) -> None:
    scores = replace(scores_of(truth, 2 * truth + 1), ts_s=np.zeros(N, int))

    found = choose_calibration(scores, "auto")

    assert isinstance(found.calibration, Temperature)
    assert (found.judged, found.is_later) == (N, False)


def test_one_user_gives_no_calibration(truth: np.ndarray) -> None:
    """There is no other user to judge on."""
    found = choose_calibration(
        replace(scores_of(truth, 2 * truth + 1), user=np.zeros(N, int)), "auto"
    )

    assert found.calibration is None
    assert found.gains["temperature"].error is None


def test_a_named_method_is_kept_whatever_it_does(truth: np.ndarray) -> None:
    scores = scores_of(truth, truth)

    assert isinstance(choose_calibration(scores, "isotonic").calibration, Isotonic)
    assert isinstance(choose_calibration(scores, "temperature").calibration, Temperature)
    assert choose_calibration(scores, "none").to_dict()["kind"] == "none"


def test_a_model_that_is_wrong_way_round_gets_no_temperature(truth: np.ndarray) -> None:
    assert fit_temperature(scores_of(truth, -truth)) is None


def test_labels_of_one_class_give_no_isotonic_map() -> None:
    zeros = np.zeros(9)
    scores = Scores(np.arange(9.0), zeros, np.ones(9), zeros, np.arange(9), np.arange(9))

    assert fit_isotonic(scores) is None
    assert choose_calibration(scores, "auto").held_out.keys() == {"none", "temperature", "isotonic"}


def test_held_out_users_are_not_fitted_on() -> None:
    """Every user has a level of its own: the map that fits one user's targets is no help for another's."""
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(12), 3)
    logit, label = rng.normal(size=36), (rng.random(36) < 0.5).astype(float)
    ones = np.ones(36)
    scores = Scores(logit, label, ones, 0 * ones, user, np.tile([1, 2, 3], 12))
    found = choose_calibration(scores, "auto")

    assert found.calibration is None
    assert found.held_out["isotonic"] > found.held_out["none"] * 0.9


def test_scores_of_sampled_pools_have_their_weights_and_offsets() -> None:
    events, _, slates = log_with_pools()
    source = BatchSource(
        events,
        None,
        slate_events=1,
        per_positive=1,
        sampling=SamplingRule(positives=2, negatives=3),
    )

    found = validation_scores(RowModel(), source, slates)

    size = source.pool_sizes(slates).sum()
    assert found.full_weight.sum() == pytest.approx(size, rel=1e-5)
    assert (found.weight * found.label).sum() == source.num_positives(slates).sum()
    assert set(found.user.tolist()) <= set(slates.user.tolist())
    times = {
        (user, events.ts_s[first]) for user, first in zip(slates.user, slates.first, strict=True)
    }
    assert set(zip(found.user, found.ts_s, strict=True)) == times


def test_scores_of_a_log_without_pools_are_those_of_its_targets() -> None:
    users = [
        [Event(100 + second, 2 + second, second % 2) for second in range(10)] for _ in range(7)
    ]
    events = make_events(users, length=8)
    slates = find_slates(events, "train", min_events=0, max_events=4)
    source = BatchSource(events, None, slate_events=4, per_positive=0)

    found = validation_scores(RowModel(), source, slates)

    assert len(found.logit) == 70
    assert found.logit == pytest.approx(np.tile(np.arange(2, 12) / 10 - 2, 7), abs=1e-6)
    assert (found.offset == 0).all()
    assert np.unique(found.ts_s).tolist() == list(range(100, 110))
