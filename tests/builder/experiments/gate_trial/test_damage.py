"""What a trial plants is what it says: slates keep their size, badges name what was bought, rows move."""

from pathlib import Path

import numpy as np
import pytest

from builder.audit.run import audit
from builder.dataset.batches import find_slates
from builder.dataset.parts import batch_source, part_slates
from builder.dataset.pool_candidates import positive_places
from builder.errors import StepError
from builder.experiments.gate_trial import artifacts, logs
from builder.ingest.events import Events
from builder.ingest.pools import NO_POOL
from builder.ingest.run import ingest
from builder.ingest.split import DAY_S, PARTS
from models.contract.artifact import save_artifact
from models.contract.calibration import (
    CALIBRATION,
    Calibration,
    Isotonic,
    Temperature,
    calibration_to_bytes,
)
from models.contract.schema import FIRST_KNOWN
from tests.builder.pool_logs import write_pools
from tests.builds import Builds
from tests.cases import Case

CASE = Case("lrea", "items")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory):
    return write_pools(tmp_path_factory.mktemp("pools"))


@pytest.fixture(scope="module")
def pooled(recipe) -> Events:
    return ingest(recipe)


def test_labels_change_places_within_slates_of_the_named_parts(builds: Builds) -> None:
    events = builds.events
    other = logs.with_shuffled_labels(events, ("train",))
    is_training = events.parts() == PARTS.index("train")
    slates = find_slates(events, "train", min_events=0, max_events=10**6)

    def clicks(log: Events):
        return np.add.reduceat(np.asarray(log.label), slates.begin)

    assert (other.label != events.label)[is_training].mean() > 0.1
    assert (other.label == events.label)[~is_training].all()
    assert (clicks(other) == clicks(events)).all()


def test_another_candidate_of_the_pool_is_bought(pooled: Events) -> None:
    other = logs.with_shuffled_labels(pooled, ("train",))
    bought = positive_places(pooled) >= 0
    is_training = pooled.parts() == PARTS.index("train")

    assert (np.asarray(other.item) != pooled.item)[bought & is_training].mean() > 0.5
    assert (np.asarray(other.item) == pooled.item)[~(bought & is_training)].all()
    assert pooled.pools is not None
    places = pooled.pools.places(np.asarray(other.event_pool), np.asarray(other.item))
    assert (places[bought] >= 0).all()


def test_the_badge_names_what_was_bought_from_a_pool(pooled: Events, recipe) -> None:
    other = logs.with_leaking_field(pooled)
    assert pooled.pools is not None
    assert other.pools is not None
    bought = np.flatnonzero(positive_places(pooled) >= 0)
    assert pooled.event_pool is not None
    keys = {(int(pooled.event_pool[at]), int(pooled.item[at])) for at in bought}
    pool = np.repeat(np.arange(len(other.pools.sizes)), other.pools.sizes)
    badge = other.schema.candidate_fields[0].size - 1
    at = np.flatnonzero(other.pools.fields[:, 0] == badge)

    assert {(int(pool[one]), int(other.pools.item[one])) for one in at} == keys
    assert (other.pools.fields[:, 1:] == pooled.pools.fields[:, 1:]).all()


def test_a_history_holds_the_targets_of_its_own_slate(pooled: Events, recipe) -> None:
    other = logs.with_targets_in_history(pooled)
    copies = len(other.item) - len(pooled.item)
    slates, before = part_slates(other, recipe, "test"), part_slates(pooled, recipe, "test")
    batch, targets = batch_source(other, recipe, "test").whole(slates, np.arange(len(slates)))
    history, label = batch.user.history.numpy(), batch.label.numpy() > 0

    assert copies == int((np.asarray(pooled.event_pool) != NO_POOL).sum())
    assert len(slates) == len(before)
    assert (np.diff(other.ts_s) >= 0)[np.diff(other.users()) == 0].all()
    for row, items in enumerate(targets.items):
        assert set(items[label[row]]) <= set(history[row])


def test_the_next_night_is_cut_a_day_later(pooled: Events, recipe) -> None:
    other = logs.a_day_later(pooled, recipe)

    assert other.split.test_from_s == pooled.split.test_from_s + DAY_S
    assert other.split.end_s == pooled.split.end_s
    assert not [check for check in audit(other, recipe).checks if check.verdict == "fails"]


def test_a_log_that_cannot_leak_is_said(builds: Builds) -> None:
    with pytest.raises(StepError, match="got a log without pools"):
        logs.with_targets_in_history(builds.events)


def test_newest_items_take_the_last_rows(builds: Builds) -> None:
    good, events = builds.artifact(CASE), builds.events
    items, other = list(good.vocabulary.items), artifacts.items_of_another_week(good, events)
    moved = list(other.vocabulary.items[-(len(items) // 20) :])
    first = {
        item: int(np.asarray(events.ts_s)[np.asarray(events.item) == row].min(initial=2**40))
        for row, item in enumerate(items, FIRST_KNOWN)
    }

    assert sorted(other.vocabulary.items) == sorted(items)
    assert other.vocabulary.items != good.vocabulary.items
    assert min(first[item] for item in moved) >= max(first[i] for i in items if i not in moved)


@pytest.mark.parametrize(
    "own", [None, Temperature(0.8, 0.1), Isotonic((-2.0, 0.0, 1.0), (-1.5, 0.2, 0.9))]
)
def test_odds_are_changed_behind_any_calibration(builds: Builds, own: Calibration | None) -> None:
    good = builds.artifact(CASE)
    contents = {name: good.read(name) for name in good.manifest.files if name != CALIBRATION}
    if own is not None:
        contents[CALIBRATION] = calibration_to_bytes(own)
    made = save_artifact(good.path.parent, good.manifest, contents)
    twice = artifacts.with_odds(artifacts.with_odds(made, 2.0), 3.0).calibration()
    logits = np.array([-3.0, 0.5])

    assert twice is not None
    expected = logits if own is None else own.log_odds(logits.copy())
    np.testing.assert_allclose(twice.log_odds(logits.copy()), expected + np.log(6))


def test_the_same_model_has_another_id(builds: Builds, tmp_path: Path) -> None:
    good = builds.artifact(CASE)
    other = artifacts.exported_again(good)

    assert other.artifact_id != good.artifact_id
    assert other.graph("score.onnx") == good.graph("score.onnx")
