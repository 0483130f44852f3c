"""How much less an old event counts: a learned weight for each age bucket."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.blocks.take_rows import take_rows
from models.contract.age import NUM_AGES
from models.contract.schema import PADDING

NEVER = -1e4
"""Log weight of padding; its exponential is 0."""


class AgeBias(nn.Module):
    """g_h(l) = exp(b_h[age of l]), 0 at padding. b starts at 0: all events count alike.

    Args:
        heads: H.
    """

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(NUM_AGES, heads))

    def log(self, ages: Int[Tensor, "B L"]) -> Float[Tensor, "B L H"]:
        """b_h of each event."""
        return take_rows(self.bias.clamp(-8, 3), ages) + NEVER * (ages == PADDING)[..., None]

    def forward(self, ages: Int[Tensor, "B L"]) -> Float[Tensor, "B L H"]:
        """g_h of each event."""
        return self.log(ages).exp()
