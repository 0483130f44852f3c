"""Batches of slates in which slates with a positive are more frequent than in the log."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def stratified(
    has_positive: NDArray[np.bool_], size: int, share: float, rng: np.random.Generator
) -> Iterator[tuple[Ints, Floats]]:
    """One epoch of batches, each with `share` of its slates from those with a positive.

    There are as many batches as hold all slates, all of the same size. Within a stratum every slate comes once before
    one comes again. Weights make up for the shares: those of a stratum sum to its share of the log times `size`.

    Args:
        has_positive: which slates have a positive, [slates].
        size: slates in a batch, at least 2.
        share: share of the batch's slates with a positive; at least one slate of each kind is taken.
        rng: draws the order.

    Yields:
        Indices of slates, [size], and their weights, [size].
    """
    strata = [np.flatnonzero(has_positive), np.flatnonzero(~has_positive)]
    rich = min(max(round(share * size), 1), size - 1)
    counts = [rich, size - rich]
    for empty in (0, 1):
        if not len(strata[empty]):
            counts[empty], counts[1 - empty] = 0, size
    batches = -(-len(has_positive) // size)
    streams = [
        _stream(stratum, batches * count, rng).reshape(batches, count)
        for stratum, count in zip(strata, counts, strict=True)
    ]
    shares = [len(stratum) / max(len(has_positive), 1) for stratum in strata]
    weight = np.repeat(
        [share * size / max(count, 1) for share, count in zip(shares, counts, strict=True)], counts
    )
    for chosen in np.concatenate(streams, 1):
        yield chosen, weight


def _stream(stratum: Ints, count: int, rng: np.random.Generator) -> Ints:
    """The first `count` of the stratum's slates, shuffled anew every time that all were shown."""
    if not count:
        return np.zeros(0, np.int64)
    passes = [rng.permutation(stratum) for _ in range(-(-count // len(stratum)))]
    return np.concatenate(passes)[:count]
