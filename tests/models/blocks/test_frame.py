"""The frame: what goes into the head of every sequence model."""

import torch

from models.batch import Context
from models.blocks.frame import Frame, FrameConfig
from tests.cases import SCHEMA, item_fields, random_batch


def test_the_frame_joins_user_context_recent_target_and_long():
    torch.manual_seed(0)
    config = FrameConfig(item_dim=6, field_dim=3, hidden=4, heads=2, mlp=(8, 4))
    frame = Frame(SCHEMA, item_fields(), config, long_dim=5).eval()
    batch = random_batch()
    profile, long = torch.randn(6, frame.profile.dim), torch.randn(6, 5, 5)
    target, recent = frame.items(batch.slate.items), frame.items(batch.context.recent)
    short = frame.short(target, recent, recent) / SCHEMA.recent_length**0.5
    user = torch.cat([profile, frame.context(batch.context.fields), recent.mean(1)], -1)
    expected = frame.head(user, torch.cat([target, short, long], -1))
    got = frame.logits(profile, batch.context, target, long)
    torch.testing.assert_close(got, expected)
    empty = Context(torch.zeros_like(batch.context.recent), batch.context.fields)
    assert not torch.allclose(frame.logits(profile, empty, target, long)[3:], got[3:])
