"""Slots by position and by content, against loops."""

import numpy as np
import pytest
import torch

from models.sequence.slots import ContentSlots, PositionSlots
from tests.models.sequence.folded import D, content_slots, embed, fill, hard_slots
from tests.reference.attention import auxiliary, compress

# Position


@pytest.mark.parametrize(("length", "rank"), [(12, 4), (10, 4), (7, 7), (9, 1)])
def test_block_slots_are_the_mean_and_the_sum_of_their_block(length: int, rank: int):
    slots = PositionSlots(length=length, rank=rank, decompression="free", init="block").double()
    rows = torch.arange(1, length + 1)[None]
    events = embed(rows)
    state = slots.encode(rows, torch.ones_like(rows), events)
    owner = [place * rank // length for place in range(length)]
    for k in range(rank):
        block = events[0, [place for place in range(length) if owner[place] == k]]
        torch.testing.assert_close(state["e_auxabsorb"][0, k], block.sum(0))
        torch.testing.assert_close(state["e_comp"][0, k], block.mean(0))


def test_gaussian_slots_have_the_documented_std():
    torch.manual_seed(0)
    slots = PositionSlots(length=400, rank=50, decompression="free", init="gaussian")
    for weight, std in ((slots.w_comp, 400**-0.5), (slots.w_decomp, 50**-0.5)):
        assert weight.std().item() == pytest.approx(std, rel=0.03)
        assert abs(weight.mean().item()) < 0.03 * std


@pytest.mark.parametrize("init", ["block", "gaussian"])
def test_softmax_columns_sum_to_one(init):
    torch.manual_seed(0)
    slots = PositionSlots(length=60, rank=12, decompression="softmax", init=init)
    assert (slots.w_decomp >= 0).all()
    torch.testing.assert_close(slots.w_decomp.sum(0), torch.ones(60))
    if init == "block":
        owner = torch.arange(60) * 12 // 60
        assert (slots.w_decomp[owner, torch.arange(60)] > 0.99).all()


@pytest.mark.parametrize("decompression", ["free", "softmax"])
def test_position_slots_are_two_matrix_products(decompression):
    torch.manual_seed(0)
    slots = PositionSlots(length=6, rank=4, decompression=decompression, init="gaussian").double()
    rows = torch.arange(1, 13).view(2, 6)
    state = slots.encode(rows, torch.ones_like(rows), embed(rows))
    for user in range(2):
        events = embed(rows)[user].tolist()
        keys = torch.tensor(compress(events, slots.w_comp.tolist()), dtype=torch.float64)
        values = torch.tensor(auxiliary(events, slots.w_decomp.tolist()), dtype=torch.float64)
        torch.testing.assert_close(state["e_comp"][user], keys)
        torch.testing.assert_close(state["e_auxabsorb"][user], values)


# Content


def test_content_weights_are_shares_of_each_event():
    slots = content_slots()
    state = fill(slots, [5, 0, 7, 7])
    assert state["counts"].sum().item() == pytest.approx(3)
    torch.testing.assert_close(
        state["e_auxabsorb"].sum(1), embed(torch.tensor([[5, 0, 7, 7]])).sum(1)
    )


def test_content_slots_equal_the_equation():
    slots, history = content_slots(), [5, 9, 0, 7]
    state = fill(slots, history)
    sums, counts = np.zeros((4, D)), np.zeros(4)
    prototypes, bias = slots.prototypes.weight.tolist(), slots.prototypes.bias.tolist()
    for row in filter(None, history):
        event = embed(torch.tensor(row)).numpy()
        logits = [float(np.dot(prototypes[k], event)) + bias[k] for k in range(4)]
        total = sum(np.exp(logit) for logit in logits)
        for k in range(4):
            counts[k] += np.exp(logits[k]) / total
            sums[k] += np.exp(logits[k]) / total * event
    np.testing.assert_allclose(state["e_auxabsorb"][0].detach(), sums)
    np.testing.assert_allclose(state["counts"][0].detach(), counts)


def test_prototypes_start_long_so_that_slots_specialise():
    torch.manual_seed(0)
    slots = ContentSlots(dim=16, rank=32)
    torch.testing.assert_close(slots.prototypes.weight.norm(dim=1), torch.full((32,), 6.0))
    assert not slots.prototypes.bias.any()


# Content, hard


@pytest.mark.parametrize("is_training", [False, True])
def test_an_event_goes_to_one_hard_slot(is_training: bool):
    slots = hard_slots().train(is_training)
    taken = torch.cat([fill(slots, [row])["counts"] for row in range(1, 200)])
    assert ((taken == 1).sum(1) == 1).all()
    assert ((taken == 0).sum(1) == slots.rank - 1).all()
    assert taken.any(0).all(), "every slot takes some"


@pytest.mark.parametrize("is_training", [False, True])
def test_hard_slots_hold_the_events_of_largest_weight(is_training: bool):
    slots, history = hard_slots().train(is_training), [5, 9, 0, 7, 5, 30, 31]
    torch.nn.init.normal_(slots.prototypes.bias)
    state = fill(slots, history)
    sums, counts = np.zeros((slots.rank, D)), np.zeros(slots.rank)
    prototypes, bias = slots.prototypes.weight.tolist(), slots.prototypes.bias.tolist()
    for row in filter(None, history):
        event = embed(torch.tensor(row)).numpy()
        logits = [float(np.dot(prototypes[k], event)) + bias[k] for k in range(slots.rank)]
        likeliest = max(range(slots.rank), key=logits.__getitem__)
        counts[likeliest] += 1
        sums[likeliest] += event
    np.testing.assert_allclose(state["e_auxabsorb"][0].detach(), sums, atol=1e-12)
    np.testing.assert_array_equal(state["counts"][0].detach(), counts)


def test_the_gradient_of_hard_slots_is_that_of_soft_ones():
    """The gradient of a linear function of the state, which does not depend on the state."""
    factors = torch.arange(1.0, 17, dtype=torch.float64).sin().view(4, D + 1)
    gradients = []
    for slots in (hard_slots(), content_slots()):
        state = fill(slots, [5, 9, 0, 7])
        rows = torch.cat([state["e_auxabsorb"], state["counts"][..., None]], -1)
        (rows * factors).sum().backward()
        gradients.append([parameter.grad for parameter in slots.parameters()])
    for hard, soft in zip(*gradients, strict=True):
        assert hard.any()
        torch.testing.assert_close(hard, soft)


def test_soft_slots_become_hard_where_prototypes_are_long():
    soft, hard = content_slots(), hard_slots()
    with torch.no_grad():
        soft.prototypes.weight.mul_(1e4)
    history = list(range(40))
    for name, tensor in fill(soft, history).items():
        torch.testing.assert_close(tensor, fill(hard, history)[name])
        assert not torch.allclose(fill(content_slots(), history)[name], tensor)
