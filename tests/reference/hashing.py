"""Hash slots, event by event: what a sketch, sums and counts hold, and what a candidate reads of them."""

import math
from collections.abc import Mapping, Sequence

Vector = Sequence[float]


def fold(
    events: Sequence[tuple[int, Vector]],
    slot_of: Mapping[int, int],
    cells_of: Mapping[int, Sequence[int]],
    rank: int,
    num_cells: int,
    dim: int,
) -> tuple[list[list[float]], list[float], list[float]]:
    """Sums, counts and cells of one family.

    Args:
        events: (key, embedding) of each event; key 0 is padding and key 1 an unknown.
        slot_of: key -> slot.
        cells_of: key -> cells of the sketch.
        rank: number of slots.
        num_cells: of the sketch.
        dim: width of an embedding.
    """
    sums = [[0.0] * dim for _ in range(rank)]
    counts, cells = [0.0] * rank, [0.0] * num_cells
    for key, embedding in events:
        if key == 0:
            continue
        counts[slot_of[key]] += 1
        for d in range(dim):
            sums[slot_of[key]][d] += embedding[d]
        for cell in cells_of[key] if key > 1 else ():
            cells[cell] += 1
    return sums, counts, cells


def own(
    total: Vector, load: float, cells: Sequence[float], key: int, target: Vector
) -> list[float]:
    """What a candidate reads of its slot in one family: the mean, and logs of its count, its soft count, the load."""
    seen = min(cells) if key > 1 else 0.0
    dot = sum(a * b for a, b in zip(total, target, strict=True))
    norm = sum(t * t for t in target) + 1e-2
    scalars = (seen, max(0.0, dot / norm), load)
    return [value / (load + 1) for value in total] + [math.log(1 + value) for value in scalars]


def mix(counter: int, seed: int) -> int:
    """The finaliser of splitmix64 (Steele, Lea & Flood 2014) over `counter` in the stream `seed`, its upper 63 bits."""
    x = (counter + seed * 0x9E3779B97F4A7C15) % 2**64
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) % 2**64
    return (x ^ (x >> 31)) >> 1
