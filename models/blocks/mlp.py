"""The head: a perceptron whose first layer is split, so that a user's part is computed once per request."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class Head(nn.Module):
    """MLP over [user ⊕ candidate] -> one logit. Linear, Leaky ReLU, BatchNorm per layer (LREA, section 4.1).

    The first linear layer, over a concatenation, is the sum of two linear layers: one is applied to a row per user, the
    other to every candidate. The function is the same, with a fraction of the multiplications.

    Args:
        user_dim: width of the input that all candidates of a user share.
        candidate_dim: width of each candidate's input.
        widths: widths of the hidden layers; [512, 256, 128] in the paper.
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
        self.user = nn.Linear(user_dim, widths[0])
        self.candidate = nn.Linear(candidate_dim, widths[0], bias=False)
        self.hidden = nn.ModuleList(nn.Linear(narrow, wide) for narrow, wide in pairwise(widths))
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for width in widths)
        self.activation = nn.LeakyReLU(slope)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(widths[-1], 1)

    def forward(
        self, user: Float[Tensor, "B Du"], candidate: Float[Tensor, "B C Dc"]
    ) -> Float[Tensor, "B C"]:
        """Logits of the candidates."""
        B, C, _ = candidate.shape
        x = self.user(user)[:, None] + self.candidate(candidate)  # (B, C, width)
        x = self.activation(x.flatten(0, 1))
        for norm, linear in zip(self.norms[:-1], self.hidden, strict=True):
            x = self.activation(self._after(norm, linear, x))
        logits = self._after(self.norms[-1], self.out, x)
        return logits.view(B, C)

    def _after(self, norm: Any, linear: Any, x: Tensor) -> Tensor:
        """linear(dropout(norm(x))). In serving the norm is constant and is folded into the linear layer."""
        out: Tensor
        if self.training:
            out = linear(self.dropout(norm(x)))
            return out
        scale = norm.weight * torch.rsqrt(norm.get_buffer("running_var") + norm.eps)
        shift = norm.bias - norm.get_buffer("running_mean") * scale
        out = F.linear(x, linear.weight * scale, linear.bias + linear.weight @ shift)
        return out
