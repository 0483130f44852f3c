"""SimHash, and the share of equal signatures (SDIM, arXiv:2205.10249), in floats."""

from collections.abc import Sequence

from tests.reference.two_stage import project

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


def collisions(left: Vector, right: Vector, planes: Matrix, tau: int) -> float:
    """Share of the signatures that two vectors have in common."""
    own, other = (buckets(bits(vector, planes), tau) for vector in (left, right))
    same = [a == b for a, b in zip(own, other, strict=True)]
    return sum(same) / len(same)
