"""Readers of a history, term by term in Python floats, without tensors and batches.

Each gives (masses, pooled vectors), one of both a head.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tests.reference.two_stage import dot, project

Vector = Sequence[float]
Matrix = Sequence[Vector]
Answer = tuple[list[float], list[list[float]]]


def pooled(weights: Matrix, loads: Vector, values: Matrix, dim: int) -> Answer:
    """Σ_k n_k w and Σ_k w v_k / (1 + Σ_k n_k |w|), for weights as [H][K]."""
    masses, vectors = [], []
    for head in weights:
        masses.append(dot(head, loads))
        size = 1 + sum(n * abs(w) for n, w in zip(loads, head, strict=True))
        pairs = list(zip(head, values, strict=True))
        vectors.append([sum(w * v[d] for w, v in pairs) / size for d in range(dim)])
    return masses, vectors


def cosines(x: Vector, y: Vector, widths: Sequence[int]) -> list[float]:
    """x · y, field by field."""
    out, at = [], 0
    for width in widths:
        out.append(dot(x[at : at + width], y[at : at + width]))
        at += width
    return out


def kernel_weight(tau: Vector, target: Vector, key: Vector, widths: Sequence[int]) -> float:
    """exp(Σ_f τ_f (cos_f − 1))."""
    pairs = zip(tau, cosines(target, key, widths), strict=True)
    return math.exp(sum(t * (c - 1) for t, c in pairs))


def kernel(
    tau: Matrix, target: Vector, keys: Matrix, widths: Sequence[int], worth: Matrix
) -> Answer:
    """Kernel attention; `worth` is g_h(l) as [H][L], 0 at padding."""
    weights = [
        [g * kernel_weight(own, target, key, widths) for g, key in zip(gs, keys, strict=True)]
        for own, gs in zip(tau, worth, strict=True)
    ]
    return pooled(weights, [1.0] * len(keys), keys, len(target))


def slot_worth(
    tau: Vector, gamma: Vector, mean: Vector, count: float, widths: Sequence[int]
) -> float:
    """n exp(Σ_f γ_f (1 − |m_f|²) τ_f² / (2 (d_f + τ_f)))."""
    squares = cosines(mean, mean, widths)
    spread = sum(
        g * max(1 - s, 0.0) * t * t / (2 * (d + t))
        for g, s, t, d in zip(gamma, squares, tau, widths, strict=True)
    )
    return count * math.exp(spread)


@dataclass(frozen=True)
class Weights:
    """W_1, W_2, W_3 [D][h], b [h], W_o as one row of h/H weights per head, slope of φ."""

    w_1: Matrix
    w_2: Matrix
    w_3: Matrix
    bias: Vector
    w_o: Matrix
    slope: float


def score(w: Weights, target: Vector, key: Vector, extra: Vector) -> list[float]:
    """W_oᵀ φ(W_1ᵀ e_t + W_2ᵀ c_k + W_3ᵀ (e_t ⊙ c_k) + extra + b), one weight per head."""
    product = [t * c for t, c in zip(target, key, strict=True)]
    parts = (project(target, w.w_1), project(key, w.w_2), project(product, w.w_3), extra, w.bias)
    totals = [sum(part) for part in zip(*parts, strict=True)]
    units = [x if x >= 0 else w.slope * x for x in totals]
    size = len(w.w_o[0])
    return [dot(row, units[head * size : (head + 1) * size]) for head, row in enumerate(w.w_o)]


def attend(
    w: Weights, target: Vector, keys: Matrix, values: Matrix, loads: Vector, extra: Matrix
) -> Answer:
    """LREA (arXiv:2503.02542v4) Eq. 9 over slots, or DIN over events."""
    scores = [score(w, target, key, more) for key, more in zip(keys, extra, strict=True)]
    weights = [[row[head] for row in scores] for head in range(len(w.w_o))]
    return pooled(weights, loads, values, len(target))


def multiply(matrix: Matrix, rows: Matrix) -> list[list[float]]:
    """A matrix times a matrix: LREA's E_comp and E_auxabsorb (Eq. 4)."""
    return [
        [sum(m * row[d] for m, row in zip(line, rows, strict=True)) for d in range(len(rows[0]))]
        for line in matrix
    ]


def non_negativity(w_decomp: Matrix, compressed_of_users: Sequence[Matrix]) -> float:
    """Eq. 10; its second term is per user, so a batch takes their mean."""

    def negative(matrix: Matrix) -> float:
        return sum(max(0.0, -value) ** 2 for row in matrix for value in row)

    users = [negative(compressed) for compressed in compressed_of_users]
    return negative(w_decomp) + sum(users) / len(users)
