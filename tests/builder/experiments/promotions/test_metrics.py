"""Metrics against scikit-learn and loops."""

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss, ndcg_score, roc_auc_score

from builder.experiments.promotions.metrics import measure_visits, overall, repeats, sampled_auc


@pytest.fixture
def scored():
    rng = np.random.default_rng(0)
    logit = np.round(rng.normal(size=(20, 50)), 1).astype(np.float32)  # with ties
    label = (rng.random((20, 50)) < 0.1).astype(np.float32)
    label[:, 0], label[:, 1] = 1, 0
    real = np.arange(50) < rng.integers(20, 51, (20, 1))
    return torch.from_numpy(logit), torch.from_numpy(label * real), torch.from_numpy(real)


def test_visit_metrics(scored):
    logit, label, real = scored
    repeat = torch.arange(50).expand(20, -1) % 2 == 0
    found = measure_visits(logit, label, real, repeat, 40)
    for b in range(20):
        p, y = logit[b][real[b]].numpy(), label[b][real[b]].numpy()
        assert found.gauc[b].item() == pytest.approx(roc_auc_score(y, p), abs=1e-5)
        even = (np.arange(len(y)) % 2 == 0) | (y == 0)
        assert found.gauc_repeat[b].item() == pytest.approx(
            roc_auc_score(y[even], p[even]), abs=1e-5
        )
        inside = np.arange(len(y)) % 2 == 0
        assert found.gauc_inside[b].item() == pytest.approx(
            roc_auc_score(y[inside], p[inside]), abs=1e-5
        )
        assert found.log_loss[b].item() == pytest.approx(
            log_loss(y, 1 / (1 + np.exp(-p.astype(float)))), abs=1e-5
        )


def test_ndcg_and_recall_without_ties():
    rng = np.random.default_rng(1)
    logit = torch.from_numpy(rng.permutation(600).reshape(10, 60).astype(np.float32))
    label = torch.from_numpy((rng.random((10, 60)) < 0.3).astype(np.float32))
    found = measure_visits(logit, label, torch.ones(10, 60, dtype=torch.bool), label > 0, 60)
    for b in range(10):
        assert found.ndcg[b].item() == pytest.approx(
            ndcg_score(label[b : b + 1], logit[b : b + 1], k=10), abs=1e-5
        )
        top = label[b][logit[b].argsort(descending=True)[:10]]
        assert found.recall[b].item() == pytest.approx(float(top.sum() / label[b].sum()), abs=1e-6)


def test_a_visit_without_positives_has_no_gauc():
    label = torch.zeros(1, 5)
    real = torch.ones(1, 5, dtype=torch.bool)
    found = measure_visits(torch.randn(1, 5), label, real, real, 5)
    assert found.gauc.isnan().all()
    assert found.recall.isnan().all()
    assert found.ndcg.isnan().all()
    assert found.log_loss.isfinite().all()


def test_sampled_auc_leaves_out_what_weighs_nothing(scored):
    logit, label, _ = scored
    weight = torch.ones_like(label)
    weight[0, 0] = 0
    found = sampled_auc(logit, label, weight)
    y, p = label[0, 1:].numpy(), logit[0, 1:].numpy()
    assert found[0].item() == pytest.approx(roc_auc_score(y, p), abs=1e-5)


def test_overall(scored):
    logit, label, real = scored
    found = overall(
        [logit[:10][real[:10]], logit[10:][real[10:]]],
        [label[:10][real[:10]], label[10:][real[10:]]],
    )
    y, p = label[real].numpy(), torch.sigmoid(logit[real]).numpy().astype(float)
    assert found["auc"] == pytest.approx(roc_auc_score(y, p), abs=1e-6)
    assert found["log_loss"] == pytest.approx(log_loss(y, p), abs=1e-6)
    assert found["pcoc"] == pytest.approx(p.sum() / y.sum(), rel=1e-5)
    order = np.argsort(p, kind="stable")
    gap = sum(abs(p[part].sum() - y[part].sum()) for part in np.array_split(order, 20)) / len(y)
    assert found["ece"] == pytest.approx(gap, abs=5e-3)  # ties may fall into another bin


def test_repeats():
    items = torch.tensor([[3, 4, 0]])
    assert repeats(items, torch.tensor([[0, 0, 4, 7]]), 9).tolist() == [[False, True, False]]
