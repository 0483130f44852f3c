"""HistoryMatches and cuts, against what a loop over targets and events finds."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from builder.dataset.batches import Targets
from builder.evaluate.breakdowns import (
    MIN_TARGETS,
    PLACES,
    break_down,
    break_down_history,
    breakdown_keys,
)
from builder.evaluate.history_matches import HistoryMatches, find_matches, join_matches
from builder.evaluate.metrics.groups import AGES, age_groups
from builder.evaluate.predict import Predictions
from models.contract.age import age_buckets
from tests.builder.hand_made import Event, make_events

DAY_S = 86_400
KEYS = [np.arange(20), np.arange(20) % 3]
RECENT = 3


def batch(seed: int, users: int = 5, candidates: int = 4, length: int = 9) -> Targets:
    rng = np.random.default_rng(seed)
    items, history = rng.integers(2, 20, (users, candidates)), rng.integers(2, 20, (users, length))
    ages = np.sort(rng.integers(1, 50, (users, length)))[:, ::-1]
    history[0, :6] = ages[0, :6] = 0
    history[1] = ages[1] = 0
    mask = rng.random((users, candidates)) < 0.7
    label = rng.integers(0, 2, (users, candidates)).astype(np.float32)
    return Targets(
        np.arange(users),
        items,
        label,
        mask,
        history,
        ages,
        np.full(items.shape, -1),
        mask * np.float32(1),
        np.arange(users),
    )


def look(key: np.ndarray, targets: Targets, row: int, column: int) -> tuple[int, int, int]:
    """Count, recent count and age of one target, event by event."""
    count = recent = age = 0
    length = targets.history.shape[1]
    for place, event in enumerate(targets.history[row]):
        if event and key[event] == key[targets.items[row, column]]:
            count += 1
            recent += place >= length - RECENT
            age = targets.ages[row, place]
    return count, recent, age


def test_matches_are_what_a_loop_finds() -> None:
    targets = batch(0)

    found = find_matches(KEYS, targets, RECENT)

    expected = [
        [look(key, targets, row, column) for key in KEYS]
        for row, column in np.argwhere(targets.mask)
    ]
    assert (
        np.stack([found.count, found.recent, found.age], -1).tolist() == np.array(expected).tolist()
    )
    assert (found.count[:, 1] >= found.count[:, 0]).all()
    assert found.count.any()
    assert not found.count.all()


def test_matches_of_batches_are_joined_in_their_order() -> None:
    one, other = (find_matches(KEYS, batch(seed), RECENT) for seed in range(2))

    both = join_matches([one, other])

    assert both.age.tolist() == [*one.age.tolist(), *other.age.tolist()]
    assert both.recent.shape == both.count.shape == both.age.shape


@pytest.mark.parametrize(
    ("days", "group"),
    [
        (0, "under 1 day"),
        (0.99, "under 1 day"),
        (1.02, "1 to 8 days"),
        (7.9, "1 to 8 days"),
        (8.2, "8 to 32 days"),
        (31.9, "8 to 32 days"),
        (32.5, "32 to 91 days"),
        (90.9, "32 to 91 days"),
        (92, "over 91 days"),
        (10_000, "over 91 days"),
    ],
)
def test_age_falls_into_the_group_of_its_limits(days: float, group: str) -> None:
    bucket = age_buckets(np.array([int(days * DAY_S)]))

    assert AGES[age_groups(bucket)[0]] == group


def test_padding_is_no_age() -> None:
    assert AGES[age_groups(np.array([0]))[0]] == "never"


def predictions(targets: int, seed: int = 0) -> Predictions:
    rng = np.random.default_rng(seed)
    age = np.where(rng.random((targets, 1)) < 0.3, 0, rng.integers(1, 50, (targets, 1)))
    count = np.where(age > 0, rng.integers(1, 4, (targets, 1)), 0)
    recent = np.minimum(count, rng.integers(0, 2, (targets, 1)))
    zeros = np.zeros(targets, np.int64)
    label = rng.integers(0, 2, targets).astype(np.float32)
    return Predictions(
        rng.random(targets), label, zeros, zeros, zeros, zeros, HistoryMatches(count, recent, age)
    )


def test_cuts_are_what_a_loop_finds() -> None:
    found = predictions(4_000)
    assert found.matches is not None

    cuts = break_down(found, ["brand"])

    by_age: dict[str, list[int]] = {group: [] for group in AGES}
    by_place: dict[str, list[int]] = {group: [] for group in PLACES}
    for target in range(4_000):
        age = int(found.matches.age[target, 0])
        by_age["never" if age == 0 else AGES[age_groups(np.array([age]))[0]]].append(target)
        count, recent = int(found.matches.count[target, 0]), int(found.matches.recent[target, 0])
        place = "in the latest N" if recent else "in the long part only" if count else "nowhere"
        by_place[place].append(target)
    assert list(cuts) == [
        "age of the latest event with the same brand",
        "where events with the same brand are",
    ]
    for measured, groups in zip(cuts.values(), (by_age, by_place), strict=True):
        assert list(measured) == [name for name, own in groups.items() if own]
        for name, group in measured.items():
            own = groups[name]
            assert group.targets == len(own)
            assert group.positives == found.label[own].sum()
            assert group.share == pytest.approx(group.positives / group.targets)
            if len(own) < MIN_TARGETS:
                assert group.auc is None
                continue
            assert group.auc == pytest.approx(
                roc_auc_score(found.label[own], found.probability[own])
            )
    assert len(cuts["where events with the same brand are"]) == 3


def test_a_small_group_has_no_auc_but_is_shown() -> None:
    found = break_down(predictions(MIN_TARGETS - 1), ["item"])

    groups = [group for cut in found.values() for group in cut.values()]
    assert sum(group.targets for group in groups) == 2 * (MIN_TARGETS - 1)
    assert all(group.auc is None for group in groups)


def test_a_group_of_one_label_is_shown() -> None:
    """It is the sign of a leak: items in no history are all positives here."""
    found = predictions(4_000)
    assert found.matches is not None
    found.label[found.matches.count[:, 0] == 0] = 1

    group = break_down(found, ["item"])["where events with the same item are"]["nowhere"]

    assert (group.auc, group.share) == (None, 1.0)
    assert group.positives == group.targets > MIN_TARGETS


def test_groups_by_history_hold_the_targets_of_their_lengths() -> None:
    rng = np.random.default_rng(0)
    label, probability = rng.integers(0, 2, 4_000).astype(np.float32), rng.random(4_000)
    history = rng.integers(0, 301, 4_000)
    label[history >= 200] = 1
    zeros = np.zeros(4_000, np.int64)

    found = break_down_history(Predictions(probability, label, zeros, zeros, zeros, history))

    assert list(found) == ["0-99", "100-199", "200+"]
    middle = (history >= 100) & (history < 200)
    assert found["100-199"].auc == pytest.approx(roc_auc_score(label[middle], probability[middle]))
    assert found["200+"].auc is None
    assert found["200+"].targets == (history >= 200).sum()


def test_breakdowns_need_matches() -> None:
    zeros = np.zeros(1, np.int64)
    found = Predictions(np.zeros(1), np.zeros(1, np.float32), zeros, zeros, zeros, zeros)

    with pytest.raises(ValueError, match="got no history matches"):
        break_down(found, ["item"])


def test_a_single_category_is_no_cut() -> None:
    users = [[Event(10, 5)]]

    assert list(breakdown_keys(make_events(users))) == ["item"]
    keys = breakdown_keys(make_events(users, categories=[2, 3]))
    assert list(keys) == ["item", "category"]
    assert keys["item"].tolist() == list(range(20))
