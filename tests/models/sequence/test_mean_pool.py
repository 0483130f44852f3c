"""Mean pooling against a loop."""

import torch
from torch import Tensor

from models.base import CtrModel
from models.batch import Batch
from models.registry import build_model
from models.sequence.linear_attention import LinearAttention
from models.sequence.mean_pool import MeanPool
from tests.cases import SCHEMA, SIZES, item_fields, random_batch


def build(name: str, **config: object) -> CtrModel:
    return build_model(name, SCHEMA, item_fields(), {**SIZES, **config}).double().eval()


def finished(model: MeanPool | LinearAttention, batch: Batch, long: Tensor) -> Tensor:
    profile, target = model.frame.profile(batch.user.fields), model.frame.items(batch.slate.items)
    return model.frame.logits(profile, batch.context, target, long)


def test_mean_pooling_is_the_mean_of_events_and_their_log_count():
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
