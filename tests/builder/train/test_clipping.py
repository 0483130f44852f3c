"""A gradient far larger than those before is scaled down to a multiple of their running mean; others are left alone."""

import pytest
import torch
from torch import Tensor, nn

from builder.train.clipping import Clipping


def clipped(
    clipping: Clipping, weights: list[nn.Parameter], grads: list[list[Tensor]]
) -> list[Tensor]:
    """All gradients of each step, after clipping."""
    found = []
    for step, own in enumerate(grads, 1):
        for weight, grad in zip(weights, own, strict=True):
            weight.grad = grad.clone()
        clipping.apply(step)
        found.append(torch.cat([w.grad.flatten() for w in weights if w.grad is not None]))
    return found


@pytest.fixture
def weights() -> list[nn.Parameter]:
    return [nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(2, 2))]


def of_norm(norm: float) -> list[Tensor]:
    grad = torch.arange(1.0, 8.0)
    grad = grad / grad.norm() * norm
    return [grad[:3], grad[3:].view(2, 2)]


def test_a_spike_is_scaled_to_twice_the_mean_and_keeps_its_direction(weights) -> None:
    found = clipped(Clipping(weights, 2.0), weights, [of_norm(1.0)] * 20 + [of_norm(50.0)])

    assert found[-1].norm() == pytest.approx(2.0, rel=1e-5)
    torch.testing.assert_close(found[-1] / 2, found[0])


def test_what_is_below_the_limit_is_untouched(weights) -> None:
    steps = [of_norm(norm) for norm in (5.0, 1.0, 1.9, 0.5, 1.2)]

    found = clipped(Clipping(weights, 2.0), weights, steps)

    for grad, own in zip(found, steps, strict=True):
        assert torch.equal(grad, torch.cat([part.flatten() for part in own]))


def test_several_spikes_raise_the_limit_slowly(weights) -> None:
    clipping = Clipping(weights, 2.0)
    found = clipped(clipping, weights, [of_norm(1.0)] * 200 + [of_norm(50.0)] * 5)

    norms = [float(grad.norm()) for grad in found[-5:]]
    assert norms == sorted(norms)
    assert norms[-1] < 2.5


def test_ratio_0_clips_nothing(weights) -> None:
    found = clipped(Clipping(weights, 0.0), weights, [of_norm(1.0), of_norm(1e6)])

    assert found[-1].norm() == pytest.approx(1e6)


def test_nan_and_zero_gradients_do_not_stay_in_the_mean(weights) -> None:
    clipping = Clipping(weights, 2.0)
    broken = [torch.full((3,), float("nan")), torch.zeros(2, 2)]

    found = clipped(clipping, weights, [of_norm(0.0), of_norm(1.0), broken, of_norm(1.0)])

    assert [float(found[step].norm()) for step in (0, 1, 3)] == pytest.approx([0.0, 1.0, 1.0])
    assert clipping.mean == pytest.approx(1.0)


def test_a_first_gradient_of_nan_does_not_stop_training(weights) -> None:
    broken = [torch.full((3,), float("nan")), torch.zeros(2, 2)]

    found = clipped(Clipping(weights, 2.0), weights, [broken, of_norm(1.0), of_norm(1.0)])

    assert found[-1].norm() == pytest.approx(1.0)
