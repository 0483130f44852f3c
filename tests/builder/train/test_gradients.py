"""Gradients are those of one batch, and on a GPU the replayed steps are the steps one by one."""

from functools import partial

import pytest
import torch
from torch import Tensor

from builder.dataset.parts import batch_source, train_slates
from builder.ingest.run import ingest
from builder.train.feed import Feed
from builder.train.gradients import Gradients, ReplayedGradients, tensors
from builder.train.train import losses
from models.base import CtrModel
from models.batch import Batch
from models.registry import build_model
from tests.builds import small_recipe

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture(scope="module")
def batches() -> list[Batch]:
    recipe = small_recipe()
    events = ingest(recipe)
    slates, source = train_slates(events, recipe), batch_source(events, recipe, "train")
    whole, part = Feed(source, slates, 16, 3), Feed(source, slates, 5, 3)
    return [*map(whole.batch, range(6)), part.batch(0), whole.batch(6)]


@pytest.fixture
def model() -> CtrModel:
    recipe = small_recipe()
    events = ingest(recipe)
    item_fields = torch.from_numpy(events.item_fields.copy())
    config = {"rank": 8, "slots": "items", "mlp": [16, 8], "item_dim": 8, "heads": 2}
    return build_model("lrea", events.schema, item_fields, config, 3)


def grads_of(model: CtrModel) -> list[Tensor]:
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


def test_gradients_of_earlier_batches_are_not_added(model, batches) -> None:
    gradients = Gradients(model, partial(losses, model))

    gradients(batches[0])
    gradients(batches[1])
    after_both = grads_of(model)
    model.zero_grad()
    gradients(batches[1])

    assert all(map(torch.equal, after_both, grads_of(model)))


def test_all_tensors_of_a_batch_are_found(batches) -> None:
    batch = batches[0]

    found = {id(tensor) for tensor in tensors(batch)}

    assert {id(batch.user.history), id(batch.slate.items), id(batch.offset)} <= found
    assert len(found) == len(tensors(batch))


@needs_gpu
def test_replayed_gradients_are_those_of_each_batch(model, batches) -> None:
    device = torch.device("cuda")
    model = model.to(device)
    one_by_one = Gradients(model, partial(losses, model))
    replayed = ReplayedGradients(model, partial(losses, model))

    for batch in (batch.to(device) for batch in batches):  # the seventh has another shape
        loss, grads = replayed(batch).clone(), grads_of(model)
        expected = one_by_one(batch)

        torch.testing.assert_close(loss, expected)
        for grad, own in zip(grads, grads_of(model), strict=True):
            torch.testing.assert_close(grad, own, rtol=1e-4, atol=1e-6)
