"""Adagrad with its rate in a tensor on the device, and a running mean of weights.

Torch's own Adagrad reads its step on the host; this one is a few fused calls that a CUDA graph can capture.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

DECAY = 0.998
"""Decay of the running mean; smaller in the first steps."""


class Adagrad:
    """w −= rate · share · g / √(Σ g² + ε) (Duchi et al. 2011), and mean ← mean + (1 − decay)(w − mean).

    Args:
        weights: trained parameters.
        means: tensors of the same shapes: running means of the weights.
        slow: weights that learn at `share` of the rate.
        share: see `slow`.
    """

    def __init__(
        self,
        weights: Iterable[nn.Parameter],
        means: Iterable[Tensor],
        *,
        slow: Iterable[nn.Parameter] = (),
        share: float = 1.0,
    ) -> None:
        self.weights: list[Tensor] = list(weights)
        self.means = list(means)
        slowed = {id(weight) for weight in slow}
        self.groups = [
            ([i for i, w in enumerate(self.weights) if (id(w) in slowed) is is_slow], factor)
            for is_slow, factor in ((False, 1.0), (True, share))
        ]
        self.squares = [torch.full_like(weight, 1e-8) for weight in self.weights]
        device = self.weights[0].device
        self.rate, self.step = torch.zeros((), device=device), torch.zeros((), device=device)

    @torch.no_grad()
    def reset(self) -> None:
        """Clear the sums of squares; set the mean to the weights."""
        self.step.zero_()
        for square in self.squares:
            square.fill_(1e-8)
        for mean, weight in zip(self.means, self.weights, strict=True):
            mean.copy_(weight)

    @torch.no_grad()
    def update(self, grads: list[Tensor]) -> None:
        """One step."""
        for chosen, factor in self.groups:
            if not chosen:
                continue
            weights, squares, g = (
                [values[i] for i in chosen] for values in (self.weights, self.squares, grads)
            )
            torch._foreach_addcmul_(squares, g, g)
            moves = torch._foreach_div(g, torch._foreach_sqrt(squares))
            torch._foreach_mul_(moves, self.rate * -factor)
            torch._foreach_add_(weights, moves)
        self.step.add_(1)
        kept = torch.clamp((1 + self.step) / (10 + self.step), max=DECAY)
        gaps = list(torch._foreach_sub(self.weights, self.means))
        torch._foreach_mul_(gaps, 1 - kept)
        torch._foreach_add_(self.means, gaps)
