"""The search of two-stage models (SIM, ETA, TWIN): the K events of a history that each candidate attends to."""

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

RESOLUTION = 0.01
"""Resolution of learned scores, whose σ starts at 1: far above float32's rounding, far below a real difference."""


def top_k(
    score: Float[Tensor, "B C L"], is_real: Bool[Tensor, "B L"], k: int, *, newer: float = 0.0
) -> tuple[Int[Tensor, "B C K"], Bool[Tensor, "B C K"]]:
    """Positions of the K = min(k, L) best events of each candidate, in no particular order. No gradient.

    Of two events whose scores differ by less than `newer` times their distance, the newer one is chosen. Without such a
    rule torch and ONNX Runtime break ties differently, and each may do so from call to call. 0 is right where events of
    equal score are interchangeable.

    Args:
        score: score of each event for each candidate; an event of score −inf is never chosen.
        is_real: false at padding.
        k: at least 1.
        newer: bonus of an event over the one before it, in units of the score. It must not depend on L: training cuts
            histories that are shorter than the model's.

    Returns:
        The positions, and which of them hold an event: with fewer than K events, the rest is padding.
    """
    L = score.shape[-1]
    bonus = newer * torch.arange(L, dtype=score.dtype, device=score.device)
    # masked_fill, not a product with the mask: that would give padding the score 0, better than a negative one.
    bonus = bonus.masked_fill(~is_real, -torch.inf)  # (B, L)
    best, index = (score.detach() + bonus[:, None]).topk(min(k, L), sorted=False)
    return index, best > -torch.inf


def gather_events(
    values: Shaped[Tensor, "B L D"], index: Int[Tensor, "B C K"]
) -> Shaped[Tensor, "B C K D"]:
    """Rows of `values` at each candidate's positions."""
    B, L, _ = values.shape
    # As rows of one table of B·L rows: `torch.gather` would need `values` once per candidate, C times the memory.
    first = L * torch.arange(B, device=index.device)
    return values.flatten(0, 1)[index + first[:, None, None]]
