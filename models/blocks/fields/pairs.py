"""Sums over pairs of fields, cut at the cache.

Each is Σ_{k<l} e_kᵀ M_kl e_l. The Ku fields of the user come first. The pairs among them are one number, and their
pairs with an online field k are one vector t_k = Σ_{l ≤ Ku} M_lkᵀ e_l: both are encoded offline, so that a request
costs O(Ko·D) for them, however many fields the user has.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def sum_pairs(x: Float[Tensor, "... K D"]) -> Float[Tensor, "..."]:
    """Σ_{k<l} <x_k, x_l> = ½(|Σx|² − Σ|x|²), O(K·D) (FM, Rendle 2010)."""
    return 0.5 * (x.sum(-2).square().sum(-1) - x.square().sum((-2, -1)))


def weighted_pairs(
    x: Float[Tensor, "... K D"], weight: Float[Tensor, "K K"]
) -> Float[Tensor, "..."]:
    """Σ_{k<l} w_kl <x_k, x_l>, for a symmetric weight with a zero diagonal. O(K²·D)."""
    K, D = x.shape[-2:]
    if K < 2:
        return 0 * x.sum((-2, -1))
    # One product of [K, K] and [K, N·D] takes 0.4 of the time of `weight @ x`, which is N small products.
    across = x.reshape(-1, K, D).permute(1, 0, 2).reshape(K, -1)
    sums = 0.5 * (across * (weight @ across)).sum(0)
    return sums.view(-1, D).sum(-1).view(x.shape[:-2])


def pair_places(num_fields: int) -> Int[Tensor, "K K"]:
    """Number of each pair k < l, 1 … K(K − 1)/2, row by row above the diagonal; 0 elsewhere."""
    places = torch.zeros(num_fields, num_fields, dtype=torch.long)
    first, second = torch.triu_indices(num_fields, num_fields, 1)
    places[first, second] = torch.arange(1, len(first) + 1)
    return places


def upper(pairs: Float[Tensor, "P ..."], places: Int[Tensor, "K K"]) -> Float[Tensor, "K K ..."]:
    """A matrix with the values of pairs above the diagonal, and zeros elsewhere.

    Args:
        pairs: values in the order of the pairs' numbers.
        places: numbers of the pairs, as `pair_places` returns them.
    """
    return torch.cat([torch.zeros_like(pairs[:1]), pairs])[places]


def symmetric(pairs: Float[Tensor, "P"], places: Int[Tensor, "K K"]) -> Float[Tensor, "K K"]:
    """`upper`, mirrored below the diagonal."""
    above = upper(pairs, places)
    return above + above.T


def matrix_pairs(
    x: Float[Tensor, "... K D"], matrices: Float[Tensor, "K K D D"]
) -> Float[Tensor, "..."]:
    """Σ_{k<l} x_kᵀ M_kl x_l, for matrices that are zero unless k < l (FmFM, Sun et al. 2021). O(K²·D²)."""
    return (transform_to(x, matrices) * x).sum((-2, -1))


def transform_to(
    x: Float[Tensor, "... K D"], matrices: Float[Tensor, "K M D D"]
) -> Float[Tensor, "... M D"]:
    """t_m = Σ_k M_kmᵀ x_k: the vector whose product with field m sums its pairs with all x_k; zeros without an x_k."""
    if not x.shape[-2]:
        # ONNX Runtime's Einsum divides by the size of the summed axis: SIGFPE kills the process.
        return x.new_zeros(*x.shape[:-2], *matrices.shape[1:3])
    return torch.einsum("...kd,kmde->...me", x, matrices)
