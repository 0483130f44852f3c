"""The plan in plain torch: the reference of the kernels, on any device."""

from collections.abc import Sequence

import torch
from torch import Tensor

from service.runtime.engines.torch.buffers import TILE, Buffers
from service.runtime.engines.torch.slots import StateLayout
from service.runtime.engines.torch.weights import TINY, Sizes, Weights


def score_eagerly(
    buffers: Buffers, states: Sequence[Tensor], weights: Weights, sizes: Sizes
) -> None:
    """Write the logits of every tile that has a user.

    Args:
        buffers: the users and their candidates.
        states: state of each user, as `StateLayout` lays it out.
        weights: of the plan.
        sizes: of the model.
    """
    layout = StateLayout(sizes)
    users = buffers.users.tolist()
    for user, state in enumerate(states):
        tiles = [tile for tile, owner in enumerate(users) if owner == user]
        at = slice(tiles[0] * TILE, (tiles[-1] + 1) * TILE)
        profile, rows, sums = layout.parts(state)
        items = buffers.items[at].long()
        shared = _shared(profile, buffers.context[user], weights)
        target = weights.vectors[items]
        long = _attend(target, rows, sums.T, slice(0, sizes.heads), weights)
        recent = buffers.recent[user]
        ones = torch.ones(sizes.short_heads, len(recent), device=recent.device)
        short = _attend(target, recent, ones, slice(sizes.heads, None), weights)
        x = shared + weights.item_terms[items]
        x = x + weights.field_terms[weights.field_starts + buffers.fields[at].long()].sum(1)
        mass = torch.cat([long[0], short[0]]).asinh()  # (G, C)
        pooled = torch.cat([long[1], short[1]])  # (G, C, D)
        x = x + (pooled @ weights.pooled).sum(0) + ((pooled * target) @ weights.products).sum(0)
        x = _leaky(x + mass.T @ weights.masses, sizes.slope)
        x = _leaky(x @ weights.hidden + weights.hidden_bias, sizes.slope)
        logits = x @ weights.out + weights.out_bias + mass.T @ weights.wide
        buffers.logits[at] = logits + weights.item_bias[items]


def _shared(profile: Tensor, context: Tensor, weights: Weights) -> Tensor:
    """First layer of what all candidates of a user share, [W1]."""
    terms = weights.context_terms[weights.context_starts + context.long()]
    return weights.bias + profile @ weights.profile + terms.sum(0)


def _attend(
    target: Tensor, rows: Tensor, counts: Tensor, heads: slice, weights: Weights
) -> tuple[Tensor, Tensor]:
    """Masses [heads, C] and pooled vectors [heads, C, D] of attention to catalogue rows.

    Args:
        target: vectors of the candidates, [C, D].
        rows: of the keys, [K]; padding has no weight.
        counts: how often each key counts, [heads, K].
        heads: which rows of τ.
        weights: of the plan.
    """
    keys = weights.vectors[rows.long()]
    queries = target * weights.tau[heads, None]  # (heads, C, D)
    exponent = queries @ keys.T - weights.tau_sum[heads, None, None]
    weight = exponent.exp() * (counts.clamp(min=TINY) * (rows != 0))[:, None]
    mass = weight.sum(-1)
    return mass, (weight @ keys) / (1 + mass)[..., None]


def _leaky(x: Tensor, slope: float) -> Tensor:
    return torch.where(x > 0, x, slope * x)
