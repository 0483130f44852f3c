"""Linear attention against its equation as a loop."""

import pytest
import torch
from torch import Tensor

from models.base import CtrModel
from models.batch import Batch, User
from models.registry import build_model
from models.sequence.linear_attention import LinearAttention
from models.sequence.mean_pool import MeanPool
from tests.cases import SCHEMA, SIZES, item_fields, random_batch
from tests.reference.sim_hash import linear_attention as by_loops


def build(name: str, **config: object) -> CtrModel:
    return build_model(name, SCHEMA, item_fields(), {**SIZES, **config}).double().eval()


def finished(model: MeanPool | LinearAttention, batch: Batch, long: Tensor) -> Tensor:
    profile, target = model.frame.profile(batch.user.fields), model.frame.items(batch.slate.items)
    return model.frame.logits(profile, batch.context, target, long)


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_linear_attention_equals_the_equation(heads: int):
    model, batch = build("linear_attention", heads=heads), random_batch(users=7)
    assert isinstance(model, LinearAttention)
    torch.nn.init.normal_(model.w_k)
    target, events = model.frame.items(batch.slate.items), model.frame.items(batch.user.history)
    w_q, w_k = model.w_q.tolist(), model.w_k.tolist()
    long = torch.tensor(
        [
            [
                by_loops(e_t, events[b][history > 0].tolist(), w_q, w_k, heads)
                for e_t in target[b].tolist()
            ]
            for b, history in enumerate(batch.user.history)
        ],
        dtype=torch.float64,
    )
    got = model(batch.user, batch.context, batch.slate)
    torch.testing.assert_close(got, finished(model, batch, long), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("length", [2, 12, 10_000])
def test_the_state_does_not_depend_on_the_window(length: int):
    """Divided by the window, sums would come near the constant in the divisor."""
    model, batch = build("linear_attention"), random_batch(users=1)
    history = torch.zeros(1, length, dtype=torch.int64)
    history[0, -1] = 7
    wide, alone = (
        model.encode(User(rows, (rows > 0).long(), batch.user.fields))
        for rows in (history, history[:, -1:])
    )
    for name, values in wide.items():
        torch.testing.assert_close(values, alone[name])


@pytest.mark.parametrize("name", ["mean_pool", "linear_attention"])
def test_heads_that_do_not_divide_the_width_are_refused(name: str):
    with pytest.raises(ValueError, match="heads: got 3, expected a divisor of hidden = 16"):
        build(name, heads=3)
