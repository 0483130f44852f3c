"""Hash slots, event by event: tables, sums and counts of the slots, and what a candidate reads from them."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

Vector = Sequence[float]


def deal_slots(sizes: Sequence[int], rank: int, width: int) -> list[int]:
    """One slot at a time to each family without room for all its keys; the rest to the largest family."""
    slots, order = [0] * len(sizes), sorted(range(len(sizes)), key=lambda family: sizes[family])
    while rank:
        hungry = [family for family in order if slots[family] * width < sizes[family]]
        for family in hungry[-rank:]:
            slots[family] += 1
            rank -= 1
        if not hungry:
            slots[order[-1]] += rank
            rank = 0
    return slots


def weight_of(age: int, half_life_days: float) -> float:
    """Weight of an event of age bucket `age`: bucket b spans octaves (b-1)/2 to b/2 above one minute."""
    if age == 0:
        return 0.0
    minutes = 2 ** ((2 * age - 1) / 4) - 1
    return math.exp(-math.log(2) * minutes / (24 * 60 * half_life_days)) if half_life_days else 1.0


def fold(
    events: Sequence[tuple[int, float, Vector]], slot_of: Mapping[int, int], rank: int, dim: int
) -> tuple[list[list[float]], list[float], dict[int, float]]:
    """Sums and counts of the slots of one family, and the count of each of its keys.

    Args:
        events: (key, weight, embedding) of each event; key 0 is padding and key 1 an unknown.
        slot_of: key -> slot.
        rank: number of slots.
        dim: width of an embedding.
    """
    sums = [[0.0] * dim for _ in range(rank)]
    counts, seen = [0.0] * rank, defaultdict[int, float](float)
    for key, weight, embedding in events:
        if key == 0:
            continue
        counts[slot_of[key]] += weight
        for d in range(dim):
            sums[slot_of[key]][d] += weight * embedding[d]
        if key > 1:
            seen[key] += weight
    return sums, counts, dict(seen)


def most_frequent(
    seen: Mapping[int, float], slot_of: Mapping[int, int], width: int
) -> dict[int, list[tuple[int, float]]]:
    """Slot -> its `width` most frequent keys with their counts; of equal counts, the smallest keys."""
    tables = defaultdict[int, list[tuple[int, float]]](list)
    for key, count in sorted(seen.items(), key=lambda item: (-item[1], item[0])):
        if count > 0 and len(tables[slot_of[key]]) < width:
            tables[slot_of[key]].append((key, count))
    return {slot: table for slot, table in tables.items() if table}


def own(total: Vector, load: float, seen: float, target: Vector) -> tuple[list[float], list[float]]:
    """What a candidate reads from its slot in one family: the mean, and logs of count, soft count and load."""
    dot = sum(a * b for a, b in zip(total, target, strict=True))
    norm = sum(t * t for t in target) + 1e-2
    scalars = (seen, max(0.0, dot / norm), load)
    return [value / (load + 1) for value in total], [math.log(1 + value) for value in scalars]


def mix(counter: int, seed: int) -> int:
    """The finaliser of splitmix64 (Steele, Lea & Flood 2014) over `counter` in the stream `seed`, its upper 63 bits."""
    x = (counter + seed * 0x9E3779B97F4A7C15) % 2**64
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) % 2**64
    return (x ^ (x >> 31)) >> 1
