"""Batches on the device: labels, histories, and the correction of the sampling rate."""

import numpy as np
import pytest
import torch

from builder.experiments.promotions.prepared import Prepared
from builder.experiments.promotions.task import AGES, Task

LENGTH = 32


@pytest.fixture(scope="module")
def task(prepared: Prepared) -> Task:
    return Task(prepared, torch.device("cpu"), LENGTH)


def _draw(task: Task, visits: torch.Tensor, negatives: int, positives: int = 12, seed: int = 0):
    draws = torch.rand(len(visits), 1 + negatives, generator=torch.Generator().manual_seed(seed))
    return task.sample(visits, torch.ones(len(visits)), draws, positives)


def test_positives_are_bought_and_negatives_are_not(task: Task, prepared: Prepared):
    visits = task.parts["train"]
    slates = _draw(task, visits, 30)
    for b, visit in enumerate(visits.tolist()):
        rows = prepared.pool_row[prepared.pool_of(visit)]
        bought = set(rows[prepared.labels_of(visit)].tolist())
        real = slates.weight[b] > 0
        taken = slates.items[b][real & (slates.label[b] > 0)].tolist()
        assert sorted(taken) == sorted(bought)  # each once
        others = set(slates.items[b][slates.label[b] == 0].tolist())
        assert others <= set(rows.tolist()) - bought
        assert slates.offset[b].item() == pytest.approx(np.log((len(rows) - len(bought)) / 30))


def test_every_other_product_of_the_pool_is_drawn_alike(task: Task, prepared: Prepared):
    visit = max(task.parts["train"].tolist(), key=lambda v: len(prepared.positives_of(v)))
    slates = _draw(task, torch.full((2000,), visit), 50)
    rows = prepared.pool_row[prepared.pool_of(visit)]
    times = np.bincount(slates.items[slates.label == 0].numpy(), minlength=rows.max() + 1)[rows]
    others = ~prepared.labels_of(visit)
    assert (times[~others] == 0).all()
    expected = 2000 * 50 / others.sum()
    assert np.abs(times[others] / expected - 1).max() < 5 * expected**-0.5


def test_a_run_of_positives_stands_for_all(task: Task, prepared: Prepared):
    visit = max(task.parts["train"].tolist(), key=lambda v: len(prepared.positives_of(v)))
    bought = len(prepared.positives_of(visit))
    assert bought >= 3
    slates = _draw(task, torch.full((3000,), visit), 5, positives=2)
    assert slates.weight[:, :2].sum(1).allclose(torch.tensor(float(bought)))
    seen = np.unique(slates.items[:, :2].numpy(), return_counts=True)[1]
    assert len(seen) == bought
    assert np.abs(seen / (6000 / bought) - 1).max() < 0.15


def test_the_corrected_loss_is_least_at_the_real_rate(task: Task, prepared: Prepared):
    """A model that knows nothing but a constant fits the share of the pool that is bought."""
    visits = task.parts["train"]
    rate = sum(len(prepared.positives_of(v)) for v in visits.tolist()) / sum(
        len(prepared.labels_of(v)) for v in visits.tolist()
    )
    parts = [_draw(task, visits, 20, seed=seed) for seed in range(8)]
    constant = torch.zeros((), requires_grad=True)
    optimiser = torch.optim.LBFGS([constant], max_iter=50)

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        total = sum(
            torch.nn.functional.binary_cross_entropy_with_logits(
                constant + s.offset.expand_as(s.label), s.label, s.weight, reduction="mean"
            )
            for s in parts
        )
        assert isinstance(total, torch.Tensor)
        total.backward()
        return total

    optimiser.step(loss)
    assert constant.sigmoid().item() == pytest.approx(rate, rel=0.02)


def test_histories_end_before_the_visit_and_ages_grow_backwards(task: Task, prepared: Prepared):
    visits = task.parts["test"][:50]
    rows, index, ages = task.history(visits)
    for b, visit in enumerate(visits.tolist()):
        events = prepared.event_row[prepared.start[visit] : prepared.end[visit]][-LENGTH:]
        assert rows[b, LENGTH - len(events) :].tolist() == events.tolist()
        assert (rows[b, : LENGTH - len(events)] == 0).all()
    assert ((ages == 0) == (rows == 0)).all()
    assert ages.max() < AGES
    assert (ages.diff(dim=1)[:, 1:][(ages[:, 1:-1] > 0)] <= 0).all()
    assert (index[rows == 0] >= len(prepared.item_fields)).all()
    assert torch.equal(index[rows > 0], rows[rows > 0])


def test_strata_keep_the_log_s_shares(task: Task, prepared: Prepared):
    torch.manual_seed(0)
    visits, weight = task.draw_visits(64)
    has = torch.tensor([len(prepared.positives_of(v)) > 0 for v in visits.tolist()])
    train = prepared.part("train")
    share = np.mean([len(prepared.positives_of(int(v))) > 0 for v in train])
    assert weight[has].sum().item() / 64 == pytest.approx(share, abs=1e-5)
    assert weight.sum().item() == pytest.approx(64, rel=1e-5)


def test_whole_pools_hold_every_candidate_once(task: Task, prepared: Prepared):
    visits = task.parts["test"][:7]
    slates, is_real = task.whole(visits, 60)
    for b, visit in enumerate(visits.tolist()):
        here = prepared.pool_of(visit)
        assert slates.items[b][is_real[b]].tolist() == prepared.pool_row[here].tolist()
        assert slates.display[b][is_real[b]].tolist() == prepared.pool_display[here].tolist()
        assert (slates.label[b][is_real[b]] > 0).tolist() == prepared.labels_of(visit).tolist()
        assert not slates.label[b][~is_real[b]].any()
