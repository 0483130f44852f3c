"""Mean pooling and linear attention, which summarise a history once for all candidates, against loops."""

from dataclasses import replace

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


def test_mean_pooling_is_the_mean_of_real_events_and_their_log_count():
    model, batch = build("mean_pool"), random_batch(users=7)
    assert isinstance(model, MeanPool)
    rows = []
    for history, events in zip(
        batch.user.history, model.frame.items(batch.user.history), strict=True
    ):
        real = events[history > 0]
        mean = real.mean(0) if len(real) else torch.zeros(events.shape[-1], dtype=events.dtype)
        rows.append(torch.cat([mean, torch.tensor([len(real)]).double().log1p()]))
    long = torch.stack(rows)[:, None].expand(-1, batch.slate.items.shape[1], -1)
    got = model(batch.user, batch.context, batch.slate)
    torch.testing.assert_close(got, finished(model, batch, long))


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_linear_attention_is_the_equation(heads: int):
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


@pytest.mark.parametrize("length", [1, 12, 10_000])
def test_one_event_is_read_whole_in_any_window(length: int):
    """Linear attention over one event is that event, even where φ of its key is small."""
    schema = replace(SCHEMA, history_length=length)
    model = build_model("linear_attention", schema, item_fields(), SIZES).double().eval()
    assert isinstance(model, LinearAttention)
    user = random_batch(schema, users=1).user
    history = torch.zeros(1, length, dtype=torch.int64)
    history[0, -1] = 7
    event = model.frame.items(history)[0, -1]
    with torch.no_grad():
        model.w_k.sub_(3 * event[:, None] / event.square().sum())  # k - 3
        state = model.encode(User(history, (history > 0).long(), user.fields))
    assert state["normaliser"].mean() < 0.3
    recalled = state["memory"][0] / state["normaliser"][0, :, None]
    torch.testing.assert_close(recalled, event.expand_as(recalled))
    alone = random_batch(SCHEMA, users=1).user
    alone = User(history[:, -1:], (history[:, -1:] > 0).long(), alone.fields)
    for name, values in model.encode(alone).items():
        torch.testing.assert_close(state[name], values)


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="heads: 3 does not divide hidden = 16"):
        build("linear_attention", heads=3)
