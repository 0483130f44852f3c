"""Embeddings of items and of fields."""

import pytest
import torch

from models.blocks.embedding import FieldEmbedding, ItemEmbedding
from models.contract.schema import Field
from tests.cases import SCHEMA, item_fields


def items() -> ItemEmbedding:
    torch.manual_seed(0)
    return ItemEmbedding(item_fields(), SCHEMA.item_fields, item_dim=6, field_dim=3, std=0.2)


def test_an_item_embeds_as_its_fields_concatenated():
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


def test_embeddings_start_with_the_given_std():
    torch.manual_seed(0)
    rows = torch.arange(5000)[:, None]
    embed = ItemEmbedding(rows, (Field("item", 5000),), item_dim=16, field_dim=4, std=0.2)
    assert embed(rows[2:]).std().item() == pytest.approx(0.2, rel=0.02)


def test_fields_are_concatenated_and_no_fields_have_width_zero():
    torch.manual_seed(0)
    embed = FieldEmbedding(SCHEMA.user_fields, dim=3, std=0.2)
    got = embed(torch.tensor([[2, 3], [4, 0]]))
    first, second = embed.tables
    two, three, four = torch.arange(2, 5)
    assert torch.equal(got[0], torch.cat([first(two), second(three)]))
    assert torch.equal(got[1], torch.cat([first(four), torch.zeros(3)]))
    nothing = FieldEmbedding((), dim=3, std=0.2)
    assert nothing(torch.zeros(2, 0, dtype=torch.int64)).shape == (2, nothing.dim) == (2, 0)
