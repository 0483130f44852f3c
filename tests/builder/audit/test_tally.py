"""Shares of positives and their intervals: textbook values, weights, and users whose targets are alike."""

from dataclasses import replace

import numpy as np
import pytest

from builder.audit import tally as tally_module
from builder.audit.tally import Tally, wilson
from builder.audit.view import View


def view(user: list[int], label: list[int], weight: list[float] | None = None) -> View:
    size = len(user)
    none = np.zeros(size, np.int64)
    return View(
        slate=none,
        user=np.array(user),
        item=none,
        place=none,
        size=none,
        label=np.array(label, float),
        weight=np.array(weight or [1.0] * size, float),
        counts=none[:, None],
        age=none,
        length=none,
        profile=none[:, None],
        context=none[:, None],
        candidate=none[:, None],
    )


def test_wilson_is_the_textbook_interval() -> None:
    """81 of 263: Newcombe 1998, Statistics in Medicine 17, table I, method 3, p. 861; and none of 20."""
    assert wilson(81 / 263, 263.0) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(0.0, 20.0) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert wilson(0.5, 0.0) == (0.0, 1.0)


def test_independent_targets_have_about_the_interval_of_so_many_trials() -> None:
    rng = np.random.default_rng(0)
    label = (rng.random(4_000) < 0.3).astype(int).tolist()
    tally = Tally(1)
    tally.add(view(list(range(4_000)), label), np.zeros(4_000, np.int64))

    share = tally.share(0, 1.0)

    assert share.value == np.mean(label)
    assert (share.low, share.high) == pytest.approx(wilson(share.value, 4_000.0), abs=1e-4)
    assert tally.design_effect() == pytest.approx(1, abs=0.01)


def test_targets_that_are_alike_within_users_count_as_one_per_user() -> None:
    label = np.random.default_rng(0).integers(0, 2, 100).repeat(40).tolist()
    user = np.arange(100).repeat(40).tolist()
    tally = Tally(1)
    tally.add(view(user, label), np.zeros(4_000, np.int64))

    share = tally.share(0, 1.0)

    assert (share.low, share.high) == pytest.approx(wilson(share.value, 100.0), abs=1e-6)
    assert tally.design_effect() == pytest.approx(40)


def test_a_group_of_one_class_has_the_variance_of_all_targets() -> None:
    tally = Tally(2)
    tally.add(view([0] * 100, [1] * 100), np.ones(100, np.int64))

    share = tally.share(1, design_effect=4.0)

    assert share.value == 1
    assert (share.low, share.high) == wilson(1.0, 25.0)
    assert np.isnan(tally.share(0, 1.0).value)


def test_weights_count_as_so_many_targets_of_the_log() -> None:
    tally = Tally(1)
    tally.add(view([0, 1, 2, 3], [1, 1, 0, 0], [1, 1, 9, 9]), np.zeros(4, np.int64))

    share = tally.share(0, 1.0)

    assert share.value == pytest.approx(0.1)
    assert share.high > wilson(0.1, 20.0)[1]  # four targets, not twenty
    assert tally.positives.tolist() == [2]


@pytest.mark.parametrize("dense", [1 << 16, 0], ids=["in a table", "sorted"])
def test_sums_do_not_depend_on_how_pairs_are_counted(monkeypatch, dense: int) -> None:
    monkeypatch.setattr(tally_module, "DENSE", dense)
    rng = np.random.default_rng(3)
    user, label = rng.integers(0, 5, 60).tolist(), rng.integers(0, 2, 60).tolist()
    group = rng.integers(-1, 4, 60)
    targets = view(user, label, rng.random(60).tolist())
    tally = Tally(4)
    tally.add(targets, group)

    for place in range(4):
        chosen = group == place
        weight, truth = targets.weight[chosen], targets.label[chosen]
        share = tally.share(place, 1.0)
        assert tally.targets[place] == chosen.sum()
        assert share.value == pytest.approx((weight * truth).sum() / weight.sum())
        between = sum(
            (weight * (truth - share.value))[targets.user[chosen] == one].sum() ** 2
            for one in range(5)
        )
        trials = share.value * (1 - share.value) * weight.sum() ** 2 / between
        most = weight.sum() ** 2 / (weight**2).sum()
        assert (share.low, share.high) == pytest.approx(
            wilson(share.value, float(min(trials, most)))
        )


def test_joined_groups_have_the_sum() -> None:
    tally = Tally(3)
    tally.add(view([0, 1, 2, 3], [1, 0, 1, 1]), np.array([0, 1, 2, 2]))

    joined = tally.joined(np.array([0, 1]))

    assert joined.targets.tolist() == [1, 1, 2, 2]
    assert joined.share(3, 1.0).value == 0.5
    assert joined.share(2, 1.0).value == 1


def test_a_view_of_equal_weights_is_unweighted() -> None:
    targets = view([3, 3, 7], [1, 0, 1])

    assert targets.is_unweighted
    assert targets.num_users == 2
    assert not replace(targets, weight=np.array([1.0, 2.0, 1.0])).is_unweighted
