"""MultiHead against the equation as loops (`tests/reference/two_stage.py`), in float64."""

import pytest
import torch
from torch import Tensor

from models.blocks.multi_head import MultiHead, pool
from tests.models.arrange import random
from tests.reference.two_stage import multi_head


def block(heads: int = 2, dim: int = 3, event_dim: int = 5, hidden: int = 4) -> MultiHead:
    torch.manual_seed(0)
    made = MultiHead(dim=dim, event_dim=event_dim, hidden=hidden, heads=heads).double()
    torch.nn.init.normal_(made.w_k)
    return made


def by_loops(attention: MultiHead, target: Tensor, events: Tensor, is_real: Tensor) -> Tensor:
    """The reference over the real events only."""
    w_q, w_k = attention.w_q.tolist(), attention.w_k.tolist()
    rows = [
        [
            multi_head(
                w_q, w_k, attention.heads, target[b, c].tolist(), events[b, c][real].tolist()
            )
            for c, real in enumerate(is_real[b])
        ]
        for b in range(len(target))
    ]
    return torch.tensor(rows, dtype=target.dtype)


@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize(("users", "candidates", "kept"), [(2, 3, 6), (1, 1, 1), (2, 1, 4)])
def test_it_is_the_equation(heads: int, users: int, candidates: int, kept: int):
    attention = block(heads)
    target, events = random(users, candidates, 3), random(users, candidates, kept, 5, seed=1)
    is_real = random(users, candidates, kept, seed=2) > 0
    got = attention(target, events, is_real)
    assert got.shape == (users, candidates, heads * 5)
    torch.testing.assert_close(got, by_loops(attention, target, events, is_real))


def test_rows_that_are_not_events_add_nothing():
    attention, target = block(), random(2, 3, 3)
    events, real = random(2, 3, 4, 5), torch.ones(2, 3, 4, dtype=torch.bool)
    more = torch.cat([events, 99 * random(2, 3, 2, 5, seed=1)], 2)
    expected = attention(target, events, real)
    is_real = torch.cat([real, torch.zeros(2, 3, 2, dtype=torch.bool)], 2)
    torch.testing.assert_close(attention(target, more, is_real), expected)


def test_a_candidate_without_events_gets_zeros_and_a_finite_gradient():
    attention, target = block(), random(2, 3, 3).requires_grad_()
    events = random(2, 3, 4, 5).requires_grad_()
    is_real = torch.ones(2, 3, 4, dtype=torch.bool)
    is_real[0] = is_real[1, 2] = False
    out = attention(target, events, is_real)
    assert not out[0].any()
    assert not out[1, 2].any()
    assert out[1, :2].any()
    out.sum().backward()
    for gradient in (target.grad, events.grad, attention.w_q.grad, attention.w_k.grad):
        assert gradient is not None
        assert gradient.isfinite().all()
    assert events.grad is not None
    assert not events.grad[0].any()


def test_large_logits_give_finite_outputs():
    logit = torch.tensor([1e38, -1e38, 3e38]).expand(1, 1, 1, 3)
    real = torch.tensor([[[True, True, False]]])
    assert pool(logit, torch.eye(3)[None, None], real).tolist() == [[[[1.0, 0.0, 0.0]]]]


def test_the_order_of_events_does_not_matter():
    attention, target, events = block(), random(1, 2, 3), random(1, 2, 4, 5)
    is_real = torch.tensor([[[True, False, True, True], [False, False, True, False]]])
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(
        attention(target, events[:, :, order], is_real[..., order]),
        attention(target, events, is_real),
    )


def test_at_the_start_an_event_of_the_candidates_own_item_weighs_most():
    torch.manual_seed(0)
    attention = MultiHead(dim=28, event_dim=28, hidden=32, heads=4)
    items = 0.2 * random(2, 16, 28).float()
    events = items[:, None].expand(2, 16, 16, 28)
    is_real = torch.ones(2, 16, 16, dtype=torch.bool)
    out = attention(items, events, is_real).unflatten(-1, (4, 28)).mean(2)
    nearest = torch.cdist(out, items).argmin(-1)
    assert (nearest == torch.arange(16)).float().mean() > 0.9


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="heads: got 3, expected a divisor of hidden = 32"):
        MultiHead(dim=4, event_dim=4, hidden=32, heads=3)
    with pytest.raises(ValueError, match="event_dim: got 3, expected at least dim = 4"):
        MultiHead(dim=4, event_dim=3, hidden=32, heads=4)
