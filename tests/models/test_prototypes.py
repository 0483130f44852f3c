"""Prototype rows behind the items change no score, and no model takes one new item for another."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from models.base import CtrModel
from models.batch import Batch, Slate, User
from models.contract.schema import PADDING
from models.registry import build_model
from tests.cases import CASES, SCHEMA, Case, item_fields, random_batch

FIRST = SCHEMA.num_items
COMBINATIONS = [(3, 2), (3, 2), (4, 2)]
"""Category and popularity of three prototypes; the first two are of two new items, whose fields are equal."""


def with_prototypes(case: Case) -> tuple[CtrModel, CtrModel]:
    """A model with random weights, and the same one with prototypes."""
    plain = build_model(case.model, SCHEMA, item_fields(), case.config, seed=1).eval()
    added = torch.tensor([(PADDING, *ids) for ids in COMBINATIONS])
    wide = torch.cat([item_fields(), added])
    schema = replace(SCHEMA, num_items=len(wide))
    model = build_model(case.model, schema, wide, case.config, seed=2).eval()
    weights = {
        name: wide.clone() if name.endswith("item_fields") else values
        for name, values in plain.state_dict().items()
    }
    model.load_state_dict(weights)
    return plain, model


def scores(model: CtrModel, batch: Batch) -> Tensor:
    with torch.inference_mode():
        logits: Tensor = model(batch.user, batch.context, batch.slate)
    return logits


@pytest.mark.parametrize("case", CASES, ids=str)
def test_prototypes_change_no_score_of_an_item(case: Case):
    plain, model = with_prototypes(case)
    batch = random_batch()
    torch.testing.assert_close(scores(model, batch), scores(plain, batch), rtol=0, atol=1e-6)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_purchase_of_a_new_item_is_none_of_another_with_equal_fields(case: Case):
    _, model = with_prototypes(case)
    batch = random_batch()
    bought = [_with_event(batch, FIRST + number) for number in (0, 1)]
    of_first = [scores(model, replace(one, slate=_only(one, FIRST))) for one in bought]
    torch.testing.assert_close(*of_first, rtol=0, atol=1e-6)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_new_item_has_the_score_of_its_fields(case: Case):
    _, model = with_prototypes(case)
    batch = random_batch()
    first, same, other = (
        scores(model, replace(batch, slate=_only(batch, FIRST + number))) for number in (0, 1, 2)
    )
    torch.testing.assert_close(first, same, rtol=0, atol=1e-6)
    assert not torch.allclose(first, other, atol=1e-6)


def _with_event(batch: Batch, row: int) -> Batch:
    """The batch with a row as the latest event of every user."""
    history, ages = batch.user.history.clone(), batch.user.ages.clone()
    history[:, -1], ages[:, -1] = row, 5
    recent = batch.context.recent.clone()
    recent[:, -1] = row
    user = User(history, ages, batch.user.fields)
    return replace(batch, user=user, context=replace(batch.context, recent=recent))


def _only(batch: Batch, row: int) -> Slate:
    return Slate(torch.full_like(batch.slate.items, row), batch.slate.fields)
