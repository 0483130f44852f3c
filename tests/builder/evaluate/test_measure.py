"""A model on a part of the log: on whole pools where there are pools, on all targets elsewhere."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from builder.dataset.batches import BatchSource, Slates, find_slates
from builder.evaluate.measure import measure_model, whole_slates
from builder.evaluate.predict import predict
from builder.evaluate.record_quality import measure_record_quality
from builder.ingest.events import Events
from builder.recipe.sampling import SamplingRule
from models.base import CtrModel, UserState
from models.batch import Context, Slate, User
from models.contract.calibration import Temperature
from models.contract.state_spec import TensorSpec
from tests.builder.hand_made import Event, make_events, with_pools

NUM_ITEMS = 20


class RowModel(CtrModel):
    """Its logit is the catalogue row, and a number of the state that fits in fp32 alone."""

    def state_spec(self) -> tuple[TensorSpec, ...]:
        return (TensorSpec("level", (1,)),)

    def encode(self, user: User) -> UserState:
        return {"level": torch.full((len(user.history), 1), 1e6)}

    def score(self, state: UserState, context: Context, slate: Slate) -> torch.Tensor:
        return slate.items.float() / 10 + state["level"] / 1e6 - 3


def log_with_pools() -> tuple[Events, BatchSource, Slates]:
    """30 users with one purchase of each of two items before, then two baskets each, from one of three pools."""
    rng = np.random.default_rng(0)
    pools = [
        dict.fromkeys(rng.permutation(np.arange(2, NUM_ITEMS))[:size].tolist(), 2)
        for size in (6, 9, 15)
    ]
    users, event_pool = [], []
    for _ in range(30):
        events = [Event(40, 5), Event(50, 12)]
        event_pool += [-1, -1]
        for ts_s in (150, 160):
            items = rng.permutation(np.arange(2, NUM_ITEMS))[:3]
            events += [Event(ts_s, int(item)) for item in items]
            event_pool += [int(rng.integers(0, 3))] * 3
        users.append(events)
    events_of_log = with_pools(make_events(users, num_items=NUM_ITEMS), pools, event_pool)
    rule = SamplingRule(positives=2, negatives=3)
    source = BatchSource(events_of_log, None, slate_events=1, per_positive=1, sampling=rule)
    return events_of_log, source, find_slates(events_of_log, "train", min_events=0, max_events=1)


def test_whole_pools_are_measured() -> None:
    events, source, slates = log_with_pools()
    assert len(slates) == 60

    found = measure_model(RowModel(), source, slates)

    pools, of_event = events.pools, events.event_pool
    assert pools is not None
    assert of_event is not None
    labels, logits, aucs = [], [], []
    for slate in range(len(slates)):
        bought = set(events.item[slates.begin[slate] : slates.end[slate]].tolist())
        low, high = pools.first[of_event[slates.begin[slate]] + np.arange(2)]
        pool = pools.item[low:high]
        label = np.isin(pool, list(bought))
        labels.append(label)
        logits.append(pool / 10 - 2)
        if 0 < label.sum() < len(label):
            aucs.append(roc_auc_score(label, pool))
    label, logit = np.concatenate(labels), np.concatenate(logits)
    assert (found.test.targets, found.test.positives) == (len(label), label.sum())
    assert found.test.auc == pytest.approx(roc_auc_score(label, logit))
    assert found.test.slate_gauc == pytest.approx(np.mean(aucs))
    assert found.test.pcoc == pytest.approx((1 / (1 + np.exp(-logit))).sum() / label.sum())
    assert found.test.slates == 60
    assert found.test.mixed_slates == len(aucs)
    assert found.vectors["user"].tolist() == slates.user.tolist()
    assert found.oracle_auc is None
    groups = found.cuts["whether the item is in the history"]
    first = [slate for slate in range(60) if slates.first[slate] % 8 == 2]
    assert groups["bought before"].targets >= len(first)
    assert found.by_history["0+"].share == pytest.approx(label.mean())


@pytest.mark.parametrize("has_pools", [True, False])
def test_calibration_moves_probabilities_and_no_order(has_pools: bool) -> None:
    _, source, slates = log_with_pools() if has_pools else log_without_pools()
    calibration = Temperature(0.5, -1.5)

    plain = measure_model(RowModel(), source, slates)
    found = measure_model(RowModel(), source, slates, calibration=calibration)

    assert plain.uncalibrated is None
    assert found.uncalibrated is not None
    assert found.uncalibrated.log_loss == pytest.approx(plain.test.log_loss, rel=1e-6)
    assert found.uncalibrated.pcoc == pytest.approx(plain.test.pcoc, rel=1e-6)
    assert found.test.auc == pytest.approx(plain.test.auc, abs=1e-6)
    assert found.test.slate_gauc == pytest.approx(plain.test.slate_gauc, abs=1e-6)
    assert found.test.pcoc < plain.test.pcoc
    halved = [row["predicted"] for row in found.reliability]
    expected = [1 / (1 + np.exp(-(0.5 * (items / 10 - 2) - 1.5))) for items in (2, NUM_ITEMS - 1)]
    assert expected[0] - 1e-3 <= min(halved) < max(halved) <= expected[1] + 1e-3


def test_batches_of_whole_pools_hold_each_slate_once() -> None:
    _, source, slates = log_with_pools()

    batches = list(whole_slates(source, slates, torch.device("cpu"), count=25))

    chosen = np.concatenate([whole.slate for whole in batches])
    assert len(set(chosen.tolist())) == 25
    for whole in batches:
        assert whole.user.tolist() == slates.user[whole.slate].tolist()
        sizes = source.pool_sizes(slates.at(whole.slate))
        assert whole.batch.mask.sum(1).tolist() == sizes.tolist()
        assert not whole.batch.offset.any()


def test_record_quality_is_measured_on_whole_pools() -> None:
    _, source, slates = log_with_pools()

    found = measure_record_quality(RowModel(), source, slates)

    assert list(found) == ["fp32"]  # fp16, and the scale of int8, do not hold 1e6
    assert found["fp32"].auc == measure_model(RowModel(), source, slates).test.auc


def log_without_pools() -> tuple[Events, BatchSource, Slates]:
    """40 users with 20 impressions each, in slates of 4 at most."""
    rng = np.random.default_rng(0)
    users = [
        [
            Event(100 + second, int(item), int(rng.random() < 0.4))
            for second, item in enumerate(rng.integers(2, 20, 20))
        ]
        for _ in range(40)
    ]
    events = make_events(users, length=8)
    slates = find_slates(events, "train", min_events=0, max_events=4)
    return events, BatchSource(events, None, slate_events=4, per_positive=0), slates


def test_a_log_without_pools_is_measured_on_all_targets() -> None:
    _, source, slates = log_without_pools()

    found = measure_model(RowModel(), source, slates)

    predictions = predict(RowModel(), source, slates)
    assert found.test.targets == len(predictions.label) == 800
    assert found.test.slates == len(slates)
    assert found.test.slate_ndcg is None
    assert sum(group.targets for group in found.by_history.values()) == 800
    assert sum(row["targets"] for row in found.reliability) == 800
    assert measure_model(RowModel(), source, slates, is_lean=True).cuts == {}
