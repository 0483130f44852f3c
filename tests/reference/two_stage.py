"""Search in a history in Python floats, without tensors and batches."""

import math
from collections.abc import Sequence

Vector = Sequence[float]
Matrix = Sequence[Vector]


def dot(x: Vector, y: Vector) -> float:
    return sum(a * b for a, b in zip(x, y, strict=True))


def project(x: Vector, matrix: Matrix) -> list[float]:
    """Wᵀ x for W as [D][width]."""
    return [sum(x[d] * matrix[d][j] for d in range(len(x))) for j in range(len(matrix[0]))]


def best(scores: Vector, real: Sequence[bool], k: int) -> list[int]:
    """Positions of the k largest scores of real events, found by sorting; of equal scores, the latest."""
    found = [place for place in range(len(scores)) if real[place] and scores[place] > -math.inf]
    return sorted(found, key=lambda place: (-scores[place], -place))[:k]
