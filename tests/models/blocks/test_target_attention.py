"""TargetAttention against the equations as loops (`tests/reference/attention.py`), in float64."""

import itertools

import pytest
import torch

from models.blocks.target_attention import Form, TargetAttention
from tests.models.arrange import attend_by_loops, random

FORMS: list[Form] = ["concat", "split"]
each_form = pytest.mark.parametrize("form", FORMS)


def attention(form: Form, heads: int = 2, side: int = 0) -> TargetAttention:
    torch.manual_seed(0)
    block = TargetAttention(dim=3, hidden=4, heads=heads, slope=0.1, form=form, side=side).double()
    torch.nn.init.normal_(block.bias)
    return block


@each_form
@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize(("users", "candidates", "keys"), [(2, 3, 5), (1, 1, 1), (2, 1, 4)])
def test_it_is_the_equation(form: Form, heads: int, users: int, candidates: int, keys: int):
    block = attention(form, heads)
    target, key, value = (random(users, n, 3, seed=n) for n in (candidates, keys, keys + 9))
    value = value[:, :keys]
    expected = attend_by_loops(block, target, key, value)
    torch.testing.assert_close(block(target, key, value), expected)


def test_features_of_a_key_are_added_before_the_activation():
    block = attention("concat", side=2)
    target, keys, values, side = random(2, 3, 3), random(2, 5, 3), random(2, 5, 3), random(2, 5, 2)
    assert block.w_s is not None
    got = block(target, keys, values, side=side)
    torch.testing.assert_close(got, attend_by_loops(block, target, keys, values, side @ block.w_s))
    assert not torch.allclose(got, block(target, keys, values))


def test_the_split_form_takes_its_target_term_from_the_total():
    block = attention("split")
    target, keys, values, total = random(2, 3, 3), random(2, 5, 3), random(2, 5, 3), random(2, 3)
    got = block(target, keys, values, total=total)
    torch.testing.assert_close(got, attend_by_loops(block, target, keys, values, total=total))
    assert not torch.allclose(got, block(target, keys, values))
    torch.testing.assert_close(
        block(target, keys, values, total=values.sum(1)), block(target, keys, values)
    )


def test_concat_and_split_are_two_models():
    concat, split = attention("concat"), attention("split")
    split.load_state_dict(concat.state_dict())
    target, keys, values = random(2, 3, 3), random(2, 5, 3), random(2, 5, 3)
    assert not torch.allclose(concat(target, keys, values), split(target, keys, values))
    concat.slope = split.slope = 1.0  # for a linear φ Eq. 5 holds
    torch.testing.assert_close(concat(target, keys, values), split(target, keys, values))


@each_form
def test_a_key_of_value_zero_adds_nothing(form: Form):
    block = attention(form)
    target, keys, values = random(2, 3, 3), random(2, 5, 3), random(2, 5, 3)
    more_keys = torch.cat([9 * random(2, 4, 3, seed=1), keys], 1)
    more_values = torch.cat([torch.zeros(2, 4, 3, dtype=torch.float64), values], 1)
    torch.testing.assert_close(block(target, more_keys, more_values), block(target, keys, values))


@each_form
def test_the_order_of_the_keys_does_not_matter(form: Form):
    block = attention(form)
    target, keys, values = random(1, 2, 3), random(1, 4, 3), random(1, 4, 3)
    expected = block(target, keys, values)
    for order in itertools.permutations(range(4)):
        torch.testing.assert_close(block(target, keys[:, order], values[:, order]), expected)


def test_heads_are_independent():
    block = attention("concat", heads=2)
    target, keys, values = random(1, 2, 3), random(1, 4, 3), random(1, 4, 3)
    before = block(target, keys, values)
    with torch.no_grad():
        block.w_o[1] += 1
        block.w_1[:, 2:] += 1  # hidden units of the second head
    after = block(target, keys, values)
    assert torch.equal(after[..., :3], before[..., :3])
    assert not torch.isclose(after[..., 3:], before[..., 3:]).any()


@pytest.mark.parametrize("num_side", [0, 3])
@each_form
def test_training_and_serving_give_the_same(form: Form, num_side: int):
    num_side = num_side if form == "concat" else 0
    block = attention(form, side=num_side)
    target, keys, values = random(2, 3, 3), random(2, 5, 3, seed=1), random(2, 5, 3, seed=2)
    side = random(2, 5, num_side, seed=3) if num_side else None
    trained = block.train()(target, keys, values, side=side)
    served = block.eval()(target, keys, values, side=side)
    torch.testing.assert_close(served, trained, rtol=1e-12, atol=1e-12)
    bias = None if side is None or block.w_s is None else side @ block.w_s
    expected = attend_by_loops(block, target, keys, values, bias)
    torch.testing.assert_close(served, expected, rtol=1e-12, atol=1e-12)


def test_leading_padding_of_a_single_user_is_skipped(monkeypatch: pytest.MonkeyPatch):
    """Users with no, some and only padding: output and gradients are the same, and skipped keys may be NaN."""
    monkeypatch.setattr("models.blocks.target_attention.CACHE_FLOATS", 1)
    block = attention("concat", side=2).train()
    target, keys = random(3, 2, 3).requires_grad_(), random(3, 4, 3, seed=1).requires_grad_()
    side, padding = random(3, 4, 2, seed=2), torch.tensor([0, 3, 4])
    is_padding = (torch.arange(4) < padding[:, None])[..., None]
    values = random(3, 4, 3, seed=3) * ~is_padding
    inputs = (target, keys, *block.parameters())
    whole = block(target, keys, values, side=side)
    expected = torch.autograd.grad(whole.square().sum(), inputs)
    broken = keys.masked_fill(is_padding, torch.nan)
    part = block(target, broken, values, side=side, padding=padding)
    torch.testing.assert_close(part, whole)
    torch.testing.assert_close(torch.autograd.grad(part.square().sum(), inputs), expected)


@pytest.mark.parametrize("users_at_once", [1, 2, 5])
def test_the_number_of_users_at_a_time_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, users_at_once: int
):
    block = attention("concat")
    target, keys, values = random(5, 2, 3), random(5, 4, 3, seed=1), random(5, 4, 3, seed=2)
    expected = attend_by_loops(block, target, keys, values)
    floats = users_at_once * 4 * 2 * block.hidden
    monkeypatch.setattr("models.blocks.target_attention.CACHE_FLOATS", floats)
    torch.testing.assert_close(block(target, keys, values), expected)


def test_heads_that_do_not_divide_the_hidden_units_are_refused():
    with pytest.raises(ValueError, match="heads: got 3, expected a divisor of hidden = 32"):
        TargetAttention(dim=4, hidden=32, heads=3, slope=0.1)


def test_weights_start_as_documented():
    torch.manual_seed(0)
    block = TargetAttention(dim=64, hidden=256, heads=4, slope=0.1)
    bound = (6 / (3 * 64 + 256)) ** 0.5
    for weight, limit in ((block.w_1, bound), (block.w_2, bound), (block.w_3, 5 * bound)):
        assert 0.99 * limit < weight.abs().max() <= limit
        assert weight.std().item() == pytest.approx(limit / 3**0.5, rel=0.02)
    assert block.w_o.std().item() == pytest.approx((256 / 4) ** -0.5, rel=0.15)
    assert not block.bias.any()
