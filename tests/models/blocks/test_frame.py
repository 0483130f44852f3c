"""The frame: what goes into the logit of every sequence model."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from models.batch import Batch, Context, Slate
from models.blocks.frame import Frame, FrameConfig
from models.blocks.reading import Candidates, Read
from models.contract.schema import PADDING, UNKNOWN, Field
from tests.cases import SCHEMA, item_fields, random_batch

WITH_FIELDS = replace(SCHEMA, candidate_fields=(Field("display", 4),))


def frame(**config: float) -> Frame:
    torch.manual_seed(0)
    sizes = FrameConfig(item_dim=6, field_dim=3, heads=2, mlp=(8, 4), **config)  # type: ignore[arg-type]
    built = Frame(WITH_FIELDS, item_fields(), sizes, masses=2, pooled=1, has_length=True)
    torch.nn.init.normal_(built.wide.weight)
    torch.nn.init.normal_(built.bias.weight)
    return built.eval()


def read(batch: Batch) -> Read:
    generator = torch.Generator().manual_seed(2)
    shape = batch.slate.items.shape
    return Read(
        torch.randn(*shape, 2, generator=generator), torch.randn(*shape, 1, 9, generator=generator)
    )


def logits(built: Frame, batch: Batch, found: Read) -> Tensor:
    with torch.no_grad():
        candidates = Candidates(batch.slate.items, built.items(batch.slate.items))
        profile = built.encode_profile(batch.user)
        return built.logits(
            profile, batch.context, batch.slate, candidates, [found], built.items.look_up(99)
        )


def test_the_logit_is_bias_linear_path_and_head():
    built, batch = frame(), random_batch(WITH_FIELDS)
    found, target = read(batch), built.items(batch.slate.items)
    recent = built.items(batch.context.recent)
    shift = torch.where(batch.context.recent == PADDING, -1e4, 0.0)[..., None].expand(-1, -1, 2)
    short: Read = built.short(target, recent, shift)
    masses = torch.cat([found.mass, short.mass], -1).asinh()
    pooled = torch.cat([found.pooled, short.pooled], 2)
    fields = item_fields()[batch.slate.items]
    described = built.described(torch.cat([fields[..., 2:], batch.slate.fields], -1))
    products = (pooled * target[:, :, None]).flatten(2)
    candidate = torch.cat([target, pooled.flatten(2), products, described, masses], -1)
    length = (batch.user.history > 0).sum(1, keepdim=True).float().log1p() / 8
    user = torch.cat(
        [built.profile(batch.user.fields), length, built.context(batch.context.fields)], -1
    )
    expected = built.head(user, candidate) + masses @ built.wide.weight[0]
    expected = expected + built.bias(fields[..., 0]).squeeze(-1)
    torch.testing.assert_close(logits(built, batch, found), expected)


def test_recent_events_and_candidate_fields_change_scores():
    built, batch = frame(), random_batch(WITH_FIELDS)
    base = logits(built, batch, read(batch))
    empty = replace(
        batch, context=Context(torch.zeros_like(batch.context.recent), batch.context.fields)
    )
    assert not torch.allclose(logits(built, empty, read(batch))[3:], base[3:])
    other = replace(batch, slate=Slate(batch.slate.items, 3 - batch.slate.fields % 3))
    assert not torch.allclose(logits(built, other, read(batch)), base)


def test_the_base_rate_moves_every_logit_alike():
    built, batch = frame(), random_batch(WITH_FIELDS)
    base = logits(built, batch, read(batch)) - built.head.out.bias
    built.set_base_log_odds(-4.0)
    torch.testing.assert_close(logits(built, batch, read(batch)), base - 4.0)


def test_padding_and_unknown_items_are_like_nothing():
    """An item without an id of its own still has its fields."""
    items = frame().items
    assert not items(torch.tensor([PADDING, UNKNOWN])).any()
    fields = item_fields().clone()
    fields[7, 0] = UNKNOWN
    items.item_fields = fields
    vector = items(torch.tensor([7]))[0]
    assert not vector[:6].any()
    torch.testing.assert_close(vector[6:].norm(), torch.tensor(1.0))


def test_items_embed_alike_by_rows_and_by_the_whole_catalogue():
    items = frame().items
    rows = torch.arange(30)
    torch.testing.assert_close(items.look_up(1)(rows), items.look_up(1000)(rows))
    norms = items(rows[2:]).view(28, 3, 3).square().sum(-1).sum(-1)
    torch.testing.assert_close(norms, torch.full((28,), 2.0))


def test_only_training_drops_vectors():
    built, batch = frame(embedding_dropout=0.5), random_batch(WITH_FIELDS)
    base = logits(built, batch, read(batch))
    assert torch.equal(logits(built, batch, read(batch)), base)
    assert not torch.equal(logits(built.train(), batch, read(batch)), base)


def test_activity_totals_the_events_of_a_history_by_age():
    built, batch = frame(activity=3), random_batch(WITH_FIELDS)
    with torch.no_grad():
        profile = built.encode_profile(batch.user)
    assert built.activity
    ages, bias = batch.user.ages, built.activity.ages.bias.detach().clamp(-8, 3)
    for user in range(len(ages)):
        for place in range(3):
            total = sum(math.exp(bias[age, place]) for age in ages[user].tolist() if age)
            got = profile[user, built.profile.dim + place].item()
            assert got == pytest.approx(math.log1p(total) / 8, abs=1e-6)
    length = (batch.user.history > 0).sum(1).float().log1p() / 8
    torch.testing.assert_close(profile[:, -1], length)


def test_activity_starts_with_newer_events_only_the_further_it_goes():
    activity = frame(activity=3).activity
    assert activity
    bias = activity.ages.bias.detach()
    assert (bias.diff(dim=0) < 0).all()
    assert (bias[1:].diff(dim=1) < 0).all()
