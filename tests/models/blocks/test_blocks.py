"""Embeddings, head and frame."""

import pytest
import torch
from torch import nn

from models.batch import Context
from models.blocks.embedding import FieldEmbedding, ItemEmbedding
from models.blocks.frame import Frame, FrameConfig
from models.blocks.mlp import Head
from models.contract.schema import Field
from tests.cases import SCHEMA, item_fields, random_batch


def items() -> ItemEmbedding:
    torch.manual_seed(0)
    return ItemEmbedding(item_fields(), SCHEMA.item_fields, item_dim=6, field_dim=3, std=0.2)


def test_an_item_is_its_fields_side_by_side():
    embed, fields = items(), item_fields()
    rows = torch.tensor([[5, 1], [29, 5]])
    got = embed(rows)
    assert got.shape == (2, 2, embed.dim)
    assert embed.dim == 6 + 3 + 3
    for user, place in ((0, 0), (0, 1), (1, 0), (1, 1)):
        row = rows[user, place]
        parts = [table(fields[row, f]) for f, table in enumerate(embed.tables)]
        assert torch.equal(got[user, place], torch.cat(parts))


def test_padding_is_zero_and_unknown_is_not():
    got = items()(torch.tensor([[0, 1]]))[0]
    assert not got[0].any()
    assert got[1].all()


def test_padding_stays_zero_in_training():
    embed = items()
    optimizer = torch.optim.Adagrad(embed.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        (embed(torch.tensor([[0, 0, 2, 3]])) - 1).square().sum().backward()
        optimizer.step()
    got = embed(torch.tensor([[0, 2]]))[0]
    assert not got[0].any()
    assert (got[1] - items()(torch.tensor([[2]]))[0, 0]).abs().min() > 0.01


def test_embeddings_start_with_the_std_asked_for():
    torch.manual_seed(0)
    rows = torch.arange(5000)[:, None]
    embed = ItemEmbedding(rows, (Field("item", 5000),), item_dim=16, field_dim=4, std=0.2)
    assert embed(rows[2:]).std().item() == pytest.approx(0.2, rel=0.02)


def test_fields_side_by_side_and_none_at_all():
    torch.manual_seed(0)
    embed = FieldEmbedding(SCHEMA.user_fields, dim=3, std=0.2)
    got = embed(torch.tensor([[2, 3], [4, 0]]))
    first, second = embed.tables
    two, three, four = torch.arange(2, 5)
    assert torch.equal(got[0], torch.cat([first(two), second(three)]))
    assert torch.equal(got[1], torch.cat([first(four), torch.zeros(3)]))
    nothing = FieldEmbedding((), dim=3, std=0.2)
    assert nothing(torch.zeros(2, 0, dtype=torch.int64)).shape == (2, nothing.dim) == (2, 0)


@pytest.mark.parametrize("widths", [(8, 4), (5,), (7, 7, 3)])
@pytest.mark.parametrize("training", [True, False])
def test_the_head_is_an_ordinary_tower_over_the_concatenation(widths, training: bool):
    torch.manual_seed(0)
    head = Head(user_dim=3, candidate_dim=4, widths=widths, slope=0.1, dropout=0.0).double()
    layers: list[nn.Module] = []
    for i, width in enumerate(widths):
        linear = nn.Linear(7 if i == 0 else widths[i - 1], width).double()
        source = head.user if i == 0 else head.hidden[i - 1]
        weight = (
            torch.cat([head.user.weight, head.candidate.weight], 1) if i == 0 else source.weight
        )
        linear.load_state_dict({"weight": weight, "bias": source.bias})
        layers += [linear, nn.LeakyReLU(0.1), nn.BatchNorm1d(width).double()]
    tower = nn.Sequential(*layers, head.out).train(training)
    head.train(training)
    user, candidate = torch.randn(2, 3).double(), torch.randn(2, 5, 4).double()
    joined = torch.cat([user[:, None].expand(-1, 5, -1), candidate], -1)
    expected = tower(joined.flatten(0, 1)).view(2, 5)
    torch.testing.assert_close(head(user, candidate), expected)


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
