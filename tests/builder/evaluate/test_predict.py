"""Evaluation: predictions belong to their targets; the report has the oracle, the trained graph and the baseline."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from builder.dataset.batches import BatchSource, find_slates
from builder.dataset.parts import batch_source, part_slates
from builder.evaluate.predict import (
    EVALUATION_SLATES,
    Predictions,
    oracle_auc,
    predict,
)
from builder.evaluate.report import evaluate
from builder.ingest.events import Events
from builder.ingest.split import Split
from models.base import CtrModel
from tests.builder.hand_made import Event, make_events, with_oracle
from tests.builds import Builds
from tests.cases import Case


class RowModel(CtrModel):
    """Its logit is the catalogue row: shows which prediction belongs to which target."""

    def state_spec(self):
        return ()

    def encode(self, user):
        return {}

    def score(self, state, context, slate):
        return slate.items.float() / 100


def impressions(num_users: int = 250) -> Events:
    rng = np.random.default_rng(0)
    split = Split(train_from_s=0, validate_from_s=20, test_from_s=30, end_s=60)
    users = [
        [
            Event(second, int(item), int(item + rng.normal(0, 5) > 11))
            for second, item in enumerate(rng.integers(2, 20, 60))
        ]
        for _ in range(num_users)
    ]
    return make_events(users, length=8, split=split)


def predicted(events: Events, part="test", slate_events: int = 2) -> Predictions:
    slates = find_slates(events, part, min_events=0, max_events=slate_events)
    source = BatchSource(events, None, slate_events=slate_events, per_positive=0)
    return predict(RowModel(), source, slates)


def test_every_target_is_predicted_once_and_keeps_its_own_values() -> None:
    events = impressions()

    found = predicted(events)

    assert len(found.probability) == 250 * 30 > EVALUATION_SLATES
    assert len(set(found.event.tolist())) == len(found.event)
    logit = events.item[found.event] / np.float32(100)
    assert found.probability == pytest.approx(1 / (1 + np.exp(-logit.astype(float))))
    assert np.array_equal(found.label, events.label[found.event])
    assert np.array_equal(found.user, found.event // 60)
    assert found.history.max() == 8


def test_the_last_batch_may_be_smaller() -> None:
    calls = []
    events = impressions(num_users=5)
    slates = find_slates(events, "test", min_events=0, max_events=1)
    source = BatchSource(events, None, slate_events=1, per_positive=0)

    found = predict(
        RowModel(),
        source,
        slates,
        progress=lambda done, total, note="": calls.append((done, total)),
    )

    assert len(found.probability) == 150
    assert calls == [(1, 2), (2, 2)]


def test_oracle_is_the_auc_of_the_true_probabilities() -> None:
    events = impressions()
    truth = np.random.default_rng(1).random(len(events.item))

    found = oracle_auc(with_oracle(events, truth.tolist()), predicted(events))

    test = np.arange(len(events.item)) % 60 >= 30
    assert found == pytest.approx(roc_auc_score(events.label[test], truth[test]), abs=1e-6)


def test_a_real_log_has_no_oracle() -> None:
    events = impressions(num_users=5)

    assert oracle_auc(events, predicted(events)) is None


def test_slates_are_numbered_in_their_order() -> None:
    events = impressions(num_users=150)

    found = predicted(events)

    assert len(np.unique(found.slate)) == 150 * 30 > EVALUATION_SLATES
    assert (np.diff(found.slate) >= 0).all()


def test_report_of_a_model_that_serves_what_it_trains(builds: Builds) -> None:
    case = Case("lrea", "hash")
    recipe, checkpoint = builds.recipe(case), builds.checkpoint(case)

    report = evaluate(checkpoint, builds.events, recipe)

    slates = part_slates(builds.events, recipe, "test")
    source = batch_source(builds.events, recipe, "test")
    found = predict(checkpoint.build(), source, slates)
    assert report.test.auc == pytest.approx(roc_auc_score(found.label, found.probability))
    assert report.trained_graph is None
    assert report.floor is not None
    assert report.trees_floor is not None
    assert report.trees_floor.targets == report.floor.targets == report.test.targets
    assert report.oracle_auc is not None
    assert report.oracle_auc > max(report.test.auc, report.floor.auc)
    assert report.seconds == checkpoint.history[-1]["seconds"]
    without = evaluate(checkpoint, builds.events, recipe, with_baselines=False)
    assert report.calibration is not None
    assert report.calibration["kind"] == "none"
    assert without == replace(report, floor=None, trees_floor=None, calibration=None)


def test_report_of_the_papers_recipe_has_the_gap(builds: Builds) -> None:
    """Trained decompressed, served absorbed: two functions."""
    case = Case("lrea", "paper")

    report = evaluate(
        builds.checkpoint(case), builds.events, builds.recipe(case), with_baselines=False
    )

    assert report.trained_graph is not None
    assert report.trained_graph.targets == report.test.targets
    assert report.trained_graph.log_loss != report.test.log_loss


def test_evaluating_changes_no_weight(builds: Builds) -> None:
    case = Case("lrea", "hash")
    checkpoint = builds.checkpoint(case)
    model = checkpoint.build()
    slates = part_slates(builds.events, builds.recipe(case), "test")

    predict(model, batch_source(builds.events, builds.recipe(case), "test"), slates)

    for name, weight in model.state_dict().items():
        assert torch.equal(weight, checkpoint.weights[name]), name
