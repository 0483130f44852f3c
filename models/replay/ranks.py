"""How far two rankings of the same candidates are apart."""

import numpy as np
from numpy.typing import NDArray

TOP = 10
"""Candidates whose overlap is reported: a screenful."""
Floats = NDArray[np.float64]


def mid_ranks(scores: NDArray[np.floating]) -> Floats:
    """Rank of each of C candidates, 1 for the highest score; equal scores share the mean of their ranks."""
    ordered = np.sort(-scores)
    low = np.searchsorted(ordered, -scores, side="left")
    high = np.searchsorted(ordered, -scores, side="right")
    return np.asarray((low + high + 1) / 2)


def rank_distance(old: NDArray[np.floating], new: NDArray[np.floating]) -> float:
    """Spearman's footrule of two scorings of the same C candidates, over its largest value.

    Σ |rank_old − rank_new| / ⌊C² / 2⌋: 0 for the same order, 1 for the reversed one, about 2/3 for two random orders.

    Args:
        old: scores, [C], finite.
        new: other scores of the same candidates, [C], finite.

    Raises:
        ValueError: the numbers of candidates differ.
    """
    if old.shape != new.shape:
        raise ValueError(f"scores: got {old.shape} and {new.shape}, expected the same candidates")
    largest = len(old) ** 2 // 2
    return float(np.abs(mid_ranks(old) - mid_ranks(new)).sum() / largest) if largest else 0.0


def top_overlap(old: NDArray[np.floating], new: NDArray[np.floating], top: int = TOP) -> float:
    """Share of the first `top` candidates of one ranking that are among the first `top` of the other; 1 for C = 0."""
    count = min(top, len(old))
    if not count:
        return 1.0
    first, second = (
        set(np.argsort(-scores, kind="stable")[:count].tolist()) for scores in (old, new)
    )
    return len(first & second) / count
