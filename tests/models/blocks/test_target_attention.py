"""TargetAttention against the equations as loops (`tests/reference/attention.py`), in float64."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from models.blocks.target_attention import Form, TargetAttention
from tests.reference.attention import Weights, attend

FORMS: list[Form] = ["concat", "split"]
each_form = pytest.mark.parametrize("form", FORMS)


def attention(form: Form, heads: int = 2, side: int = 0) -> TargetAttention:
    torch.manual_seed(0)
    block = TargetAttention(dim=3, hidden=4, heads=heads, slope=0.1, form=form, side=side).double()
    torch.nn.init.normal_(block.bias)
    return block


def random(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def weights_of(block: TargetAttention) -> Weights:
    names = ("w_1", "w_2", "w_3", "bias", "w_o")
    values: dict[str, Any] = {name: getattr(block, name).tolist() for name in names}
    return Weights(**values, slope=block.slope)


def by_loops(
    block: TargetAttention,
    target: Tensor,
    keys: Tensor,
    values: Tensor,
    key_bias: Tensor | None = None,
    total: Tensor | None = None,
) -> Tensor:
    rows = [
        [
            attend(
                weights_of(block), block.form, target[b, c].tolist(), keys[b].tolist(),
                values[b].tolist(),
                key_bias=None if key_bias is None else key_bias[b].tolist(),
                total=None if total is None else total[b].tolist(),
            )
            for c in range(target.shape[1])
        ]
        for b in range(len(target))
    ]  # fmt: skip
    return torch.tensor(rows, dtype=torch.float64)


@each_form
@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize(("users", "candidates", "keys"), [(2, 3, 5), (1, 1, 1), (2, 1, 4)])
def test_it_is_the_equation(form: Form, heads: int, users: int, candidates: int, keys: int):
    block = attention(form, heads)
    target, key, value = (random(users, n, 3, seed=n) for n in (candidates, keys, keys + 9))
    value = value[:, :keys]
    expected = by_loops(block, target, key, value)
    torch.testing.assert_close(block(target, key, value), expected)


def test_features_of_a_key_are_added_before_the_activation():
    block = attention("concat", side=2)
    target, keys, values, side = random(2, 3, 3), random(2, 5, 3), random(2, 5, 3), random(2, 5, 2)
    assert block.w_s is not None
    got = block(target, keys, values, side=side)
    torch.testing.assert_close(got, by_loops(block, target, keys, values, side @ block.w_s))
    assert not torch.allclose(got, block(target, keys, values))


def test_with_the_total_the_split_form_has_its_target_term_from_it():
    block = attention("split")
    target, keys, values, total = random(2, 3, 3), random(2, 5, 3), random(2, 5, 3), random(2, 3)
    got = block(target, keys, values, total=total)
    torch.testing.assert_close(got, by_loops(block, target, keys, values, total=total))
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
def test_a_key_whose_value_is_zero_counts_for_nothing(form: Form):
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


def test_a_head_knows_nothing_of_the_others():
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
def test_serving_orders_the_products_otherwise_and_gives_the_same(form: Form, num_side: int):
    num_side = num_side if form == "concat" else 0
    block = attention(form, side=num_side)
    target, keys, values = random(2, 3, 3), random(2, 5, 3, seed=1), random(2, 5, 3, seed=2)
    side = random(2, 5, num_side, seed=3) if num_side else None
    trained = block.train()(target, keys, values, side=side)
    served = block.eval()(target, keys, values, side=side)
    torch.testing.assert_close(served, trained, rtol=1e-12, atol=1e-12)
    bias = None if side is None or block.w_s is None else side @ block.w_s
    expected = by_loops(block, target, keys, values, bias)
    torch.testing.assert_close(served, expected, rtol=1e-12, atol=1e-12)


def test_leading_padding_is_skipped_where_a_user_is_alone(monkeypatch: pytest.MonkeyPatch):
    """The same output and gradients as with it; users with no, some and only padding. Skipped keys may be NaN."""
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
def test_how_many_users_go_at_once_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, users_at_once: int
):
    block = attention("concat")
    target, keys, values = random(5, 2, 3), random(5, 4, 3, seed=1), random(5, 4, 3, seed=2)
    expected = by_loops(block, target, keys, values)
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
