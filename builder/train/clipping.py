"""Gradients that are far larger than those before are scaled down.

Adagrad divides a gradient by the root of the sum of its squares so far, so one that is far larger than all before moves
every weight by nearly the whole rate, and its square stays in the sum: at high rates a training diverges, or comes back
and then hardly moves. A limit relative to earlier norms needs no knowledge of the loss's scale; AutoClip (2007.14469)
takes a percentile of all norms so far, here it is a multiple of their running mean.
"""

from collections.abc import Iterable

import torch
from torch import nn

from builder.train.optimiser import decay_at

DECAY = 0.98
"""Of the running mean of norms; smaller in the first steps."""
TINY = 1e-20
"""Norms below this are not clipped."""


class Clipping:
    """norm ← min(norm, ratio · mean of earlier norms), over the gradients of all weights together.

    Args:
        weights: whose gradients are clipped.
        ratio: largest norm, in units of the running mean; 0 clips nothing.

    Attributes:
        mean: running mean of the clipped norms; 0 before the first gradient that is not 0.
    """

    def __init__(self, weights: Iterable[nn.Parameter], ratio: float) -> None:
        self._weights, self._ratio = list(weights), ratio
        self.mean = torch.zeros((), device=self._weights[0].device)

    @torch.no_grad()
    def apply(self, step: int) -> None:
        """Scale the gradients of step `step`, counted from 1."""
        if not self._ratio:
            return
        grads = [weight.grad for weight in self._weights if weight.grad is not None]
        norm = torch.stack(torch._foreach_norm(grads)).norm()
        is_known = self.mean > 0
        limit = torch.where(is_known, self._ratio * self.mean, norm)
        share = (limit / norm.clamp(min=TINY)).clamp(max=1)
        torch._foreach_mul_(grads, share)
        kept = norm * share
        # A model that has diverged to NaN must not make the mean NaN: its next step would be lost, too.
        kept = torch.where(kept.isfinite(), kept, self.mean)
        self.mean.copy_(
            torch.where(is_known, self.mean.lerp(kept, 1 - decay_at(step, DECAY)), kept)
        )
