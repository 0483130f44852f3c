"""The search of two-stage models (SIM, ETA, TWIN): which K events of a history does each candidate attend to?"""

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

RESOLUTION = 0.01
"""Of learned scores, whose σ starts at 1: far above float32's rounding, far below what tells two events apart."""


def top_k(
    score: Float[Tensor, "B C L"], is_real: Bool[Tensor, "B L"], k: int, *, resolution: float = 0.0
) -> tuple[Int[Tensor, "B C K"], Bool[Tensor, "B C K"]]:
    """Positions of the K = min(k, L) best events of each candidate, in no order. No gradient: it is a choice.

    Ties need a rule, or torch and ONNX Runtime choose differently, and so may one of them from call to call: of two
    events whose scores differ by less than `resolution`, about, the newer wins. 0 is right where events of equal score
    are interchangeable.

    Args:
        score: of each event for each candidate; −inf: never.
        is_real: false at padding.
        k: at least 1.
        resolution: what a score gains from the oldest position to beyond the newest.

    Returns:
        Positions, and which of them hold an event: padding and scores of −inf fill up what is left of K.
    """
    L = score.shape[-1]
    bonus = resolution / L * torch.arange(L, dtype=score.dtype, device=score.device)
    # Not a product with the mask: that gives padding the score zero, better than every event below zero.
    bonus = bonus.masked_fill(~is_real, -torch.inf)  # (B, L)
    best, index = (score.detach() + bonus[:, None]).topk(min(k, L), sorted=False)
    return index, best > -torch.inf


def gather_events(
    values: Shaped[Tensor, "B L D"], index: Int[Tensor, "B C K"]
) -> Shaped[Tensor, "B C K D"]:
    """The rows of `values` at each candidate's positions."""
    B, L, _ = values.shape
    # As rows of one table of B·L: `torch.gather` would want `values` once per candidate, C times the memory.
    first = L * torch.arange(B, device=index.device)
    return values.flatten(0, 1)[index + first[:, None, None]]
