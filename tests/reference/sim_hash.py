"""SimHash, SDIM (arXiv:2205.10249), ETA's search (arXiv:2108.04468), linear attention (arXiv:2006.16236), in floats."""

import math
from collections.abc import Sequence

from tests.reference.two_stage import dot, part, project

Vector = Sequence[float]
Matrix = Sequence[Vector]


def bits(x: Vector, planes: Matrix) -> list[int]:
    """1[x·h_j > 0] for each column of [D][m]."""
    return [int(value > 0) for value in project(x, planes)]


def buckets(signature: Sequence[int], tau: int) -> list[int]:
    """Each τ bits as a number, the first bit lowest."""
    groups = [signature[at : at + tau] for at in range(0, len(signature), tau)]
    return [sum(bit * 2**place for place, bit in enumerate(group)) for group in groups]


def hamming(left: Sequence[int], right: Sequence[int]) -> int:
    return sum(a != b for a, b in zip(left, right, strict=True))


def sdim(target: Vector, events: Matrix, planes: Matrix, tau: int, epsilon: float) -> list[float]:
    """Mean over signatures of the ℓ2-normalised sum of the events in the candidate's bucket."""
    own = buckets(bits(target, planes), tau)
    total = [0.0] * len(target)
    for i, bucket in enumerate(own):
        there = [e for e in events if buckets(bits(e, planes), tau)[i] == bucket]
        summed = [sum(e[d] for e in there) for d in range(len(target))]
        norm = math.sqrt(dot(summed, summed) + epsilon)
        total = [t + s / norm / len(own) for t, s in zip(total, summed, strict=True)]
    return total


def bucket_table(
    events: Matrix, planes: Matrix, tau: int, epsilon: float
) -> list[list[list[float]]]:
    """SDIM's state, [m/τ][2^τ][D]: the ℓ2-normalised sum of the events in every bucket of every signature."""
    dim, signatures = len(planes), len(planes[0]) // tau
    table = [[[0.0] * dim for _ in range(2**tau)] for _ in range(signatures)]
    for event in events:
        for i, bucket in enumerate(buckets(bits(event, planes), tau)):
            for d in range(dim):
                table[i][bucket][d] += event[d]
    return [
        [[x / math.sqrt(dot(summed, summed) + epsilon) for x in summed] for summed in row]
        for row in table
    ]


def linear_attention(
    target: Vector, events: Matrix, w_q: Matrix, w_k: Matrix, heads: int
) -> list[float]:
    """Σ_l φ(q)·φ(k_l) v_l / Σ_l φ(q)·φ(k_l) per head; zeros without events."""
    query = [feature(x) for x in project(target, w_q)]
    keys = [[feature(x) for x in project(e, w_k)] for e in events]
    out: list[float] = []
    for head in range(heads):
        weights = [dot(part(query, heads, head), part(key, heads, head)) for key in keys]
        mass = sum(weights) or 1.0
        out += [
            sum(w * e[d] for w, e in zip(weights, events, strict=True)) / mass
            for d in range(len(target))
        ]
    return out


def feature(x: float) -> float:
    """elu(x) + 1."""
    return x + 1 if x > 0 else math.exp(x)
