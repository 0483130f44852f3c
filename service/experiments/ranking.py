"""Orders of candidates by score, and how far two of them agree. Independent of models and of HTTP."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from math import sqrt

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Agreement:
    """How far two models' rankings of the same candidates agree.

    Attributes:
        models: their names.
        kendall_tau: tau-b over all candidates; None where it is undefined.
        overlap: expected share of the best k that they have in common, if ties are broken at random.
    """

    models: tuple[str, str]
    kendall_tau: float | None
    overlap: float


def agreements(scores: Mapping[str, Values], top_k: int) -> list[Agreement]:
    """Every pair of models, in the order of `scores`: model -> scores of the same candidates."""
    return [
        Agreement((a, b), kendall_tau_b(left, right), top_overlap(left, right, top_k))
        for (a, left), (b, right) in combinations(scores.items(), 2)
    ]


def best(scores: Values, top_k: int) -> Ids:
    """Positions of the best candidates, best first; ties in the order of the request."""
    return np.argsort(-scores, kind="stable")[:top_k]


def ranks(descending: Values) -> Ids:
    """Rank of each score of a list that begins with the best: 1 + how many are greater, so ties share one."""
    return 1 + np.searchsorted(-descending, -descending)


def top_overlap(left: Values, right: Values, top_k: int) -> float:
    """Expected share of common candidates among the best.

    overlap = E |best_k(left) ∩ best_k(right)| / k        k = min(top_k, C)

    The lists that are served break ties by the order of the request, in which both models would agree without having
    ranked anything. So ties are broken at random here, in each list by itself: with m candidates above the k-th score
    and t that have it, each of the t is in with probability (k - m) / t. Two models that score all candidates alike
    overlap by k / C.
    """
    best_k = min(top_k, len(left))
    return float(_membership(left, best_k) @ _membership(right, best_k)) / best_k


def _membership(scores: Values, best_k: int) -> Values:
    """Probability of each candidate to be among the best k, if ties are broken at random."""
    last = np.partition(scores, len(scores) - best_k)[len(scores) - best_k]
    is_above, is_tied = scores > last, scores == last
    share = (best_k - np.count_nonzero(is_above)) / np.count_nonzero(is_tied)
    return np.where(is_tied, share, is_above.astype(np.float64))


def kendall_tau_b(left: Values, right: Values) -> float | None:
    """Kendall's rank correlation with its correction for ties, from -1 (reversed) to 1 (the same order).

    tau_b = (P - Q) / sqrt((n0 - n1) (n0 - n2))

    P and Q are the pairs of candidates that both order the same way and opposite ways, n0 = C (C - 1) / 2 all pairs,
    n1 and n2 those that tie in `left` and in `right`: a pair that ties in either counts neither way. Scores tie where
    they are equal to the last bit. None where all candidates tie in one of the two, or there is only one: no order,
    no correlation.

    Takes O(C log² C): P - Q = n0 - n1 - n2 + n3 - 2 Q, with n3 the pairs that tie in both, and Q the inversions of
    `right` in the order of `left` (Knight, JASA 61, 1966).
    """
    num_pairs = len(left) * (len(left) - 1) // 2
    left_ranks, left_ties = _dense(left)
    right_ranks, right_ties = _dense(right)
    joint = left_ranks * len(right) + right_ranks
    _, both_ties = _dense(joint)
    untied = (num_pairs - left_ties) * (num_pairs - right_ties)
    if untied == 0:
        return None
    discordant = _inversions(right_ranks[np.argsort(joint)])
    difference = num_pairs - left_ties - right_ties + both_ties - 2 * discordant
    return difference / sqrt(untied)


def _dense(values: Values | Ids) -> tuple[Ids, int]:
    """Rank of each value among the distinct ones, lowest first from 0, and the number of pairs that tie."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return inverse.astype(np.int64), int((counts * (counts - 1) // 2).sum())


def _inversions(values: Ids) -> int:
    """Pairs that stand in descending order: i < j with values[i] > values[j] >= 0.

    Two different numbers agree in their higher bits and first differ in one, where the greater has 1. So for each bit:
    among the numbers with the same higher bits, in their order, count the ones before every zero.
    """
    total = 0
    for bit in range(int(values.max(initial=0)).bit_length()):
        order = np.argsort(values >> (bit + 1), kind="stable")
        higher = values[order] >> (bit + 1)
        ones = (values[order] >> bit) & 1
        ones_before = np.cumsum(ones) - ones
        ones_before -= ones_before[np.searchsorted(higher, higher)]
        total += int(ones_before[ones == 0].sum())
    return total
