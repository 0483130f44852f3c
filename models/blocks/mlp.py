"""The head: a perceptron whose first layer is split, so that a user's part is computed once per request."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

START = 0.1
"""Share of their usual size with which the last layer's weights start, so that scores start near the base rate."""


class Head(nn.Module):
    """MLP over [user ⊕ candidate] -> one logit: Linear, Leaky ReLU, dropout per layer.

    The first linear layer, over a concatenation, is the sum of two linear layers: one is applied to a row per user, the
    other to every candidate. The function is the same, with a fraction of the multiplications.

    Args:
        user_dim: width of the input that all candidates of a user share.
        candidate_dim: width of each candidate's input.
        widths: widths of the hidden layers.
        slope: slope of Leaky ReLU below zero.
        dropout: dropout after each hidden layer; 0 for none.
    """

    def __init__(
        self,
        *,
        user_dim: int,
        candidate_dim: int,
        widths: Sequence[int],
        slope: float,
        dropout: float,
    ) -> None:
        super().__init__()
        first = nn.Linear(user_dim + candidate_dim, widths[0])
        self.user = nn.Parameter(first.weight[:, :user_dim].detach().clone())
        self.candidate = nn.Parameter(first.weight[:, user_dim:].detach().clone())
        self.bias = first.bias
        self.hidden = nn.ModuleList(nn.Linear(narrow, wide) for narrow, wide in pairwise(widths))
        self.activation, self.dropout = nn.LeakyReLU(slope), nn.Dropout(dropout)
        self.out = nn.Linear(widths[-1], 1)
        with torch.no_grad():
            self.out.weight.mul_(START)
            self.out.bias.zero_()

    def forward(
        self, user: Float[Tensor, "B Du"], candidate: Float[Tensor, "B C Dc"]
    ) -> Float[Tensor, "B C"]:
        """Logits of the candidates."""
        shared = F.linear(user, self.user, self.bias)  # (B, width)
        x = shared[:, None] + F.linear(candidate, self.candidate)
        x = self.dropout(self.activation(x))
        for linear in self.hidden:
            x = self.dropout(self.activation(linear(x)))
        logits: Tensor = self.out(x).squeeze(-1)
        return logits
