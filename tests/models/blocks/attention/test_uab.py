"""SUAN's unified attention block against its equations."""

import pytest
import torch
import torch.nn.functional as F

from models.blocks.attention.uab import Norm, UnifiedAttentionBlock


def block(norm: Norm = "pre") -> UnifiedAttentionBlock:
    torch.manual_seed(0)
    made = UnifiedAttentionBlock(dim=8, profile_dim=3, heads=2, norm=norm, dropout=0.0)
    return made.double()


@pytest.mark.parametrize("norm", ["pre", "released"])
def test_a_block_equals_its_equations(norm: Norm):
    made = block(norm)
    for weight in made.norms.parameters():
        torch.nn.init.normal_(weight)
    x, attended, profile = (
        torch.randn(2, n, d, dtype=torch.float64) for n, d in ((5, 8), (5, 8), (4, 3))
    )
    pooled = torch.randn(2, 5, 8, dtype=torch.float64)
    n1, n2, n3 = made.norms
    if norm == "pre":
        s = x + attended @ made.out.weight.T
        v = n2(s)
    else:
        v = s = n2(n1(x) + attended @ made.out.weight.T)
    logit = (v @ made.cross.query.weight.T).view(2, 5, 2, 4).transpose(1, 2)
    key, value = (
        (profile @ part.weight.T).view(2, 4, 2, 4).transpose(1, 2)
        for part in (made.cross.key, made.cross.value)
    )
    read = (logit @ key.mT / 2).softmax(-1) @ value
    c = read.transpose(1, 2).reshape(2, 5, 8) @ made.cross.out.weight.T
    z = (pooled @ made.squeeze.weight.T).relu() @ made.excite.weight.T
    a1 = z[..., :8].exp() / (z[..., :8].exp() + z[..., 8:].exp())
    f = a1 * v + (1 - a1) * c
    w = s + f if norm == "pre" else n3(v + f)
    u = n3(w) if norm == "pre" else w
    inner = F.silu(made.swiglu.gate(u)) * made.swiglu.up(u)
    expected = w + made.swiglu.down(inner)
    torch.testing.assert_close(
        made.finish(*made.align(made.enter(x)[0], attended, profile), pooled), expected
    )


def test_the_order_of_profile_fields_does_not_matter():
    made, x = block(), torch.randn(2, 5, 8, dtype=torch.float64)
    profile = torch.randn(2, 4, 3, dtype=torch.float64)
    torch.testing.assert_close(made.cross(x, profile), made.cross(x, profile[:, [2, 0, 3, 1]]))


def test_the_shares_of_the_gate_sum_to_one_per_channel():
    made = block()
    same, pooled = torch.randn(2, 2, 5, 8, dtype=torch.float64)
    torch.testing.assert_close(made.fuse(same, same, pooled), same)


@pytest.mark.parametrize("norm", ["pre", "released"])
def test_a_block_has_the_documented_number_of_weights(norm: Norm):
    dim, width = 40, 8
    made = UnifiedAttentionBlock(dim=dim, profile_dim=width, heads=2, norm=norm, dropout=0.0)
    expected = 15.75 * dim**2 + 2 * width * dim + 10 * dim
    assert sum(weight.numel() for weight in made.parameters()) == expected
