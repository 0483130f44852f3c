"""Raw ids -> rows, for a whole slate at once: an open-addressing hash table in numpy arrays.

A dict of 100,000 strings lies scattered over memory: a thousand look-ups wait a thousand times for it, one after the
other (0.8 ms). Here all of a slate's first probes are one gather, whose waits overlap (0.15 ms).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

WIDTH = 16
"""Bytes of the ids that fit: two 64-bit words. Others, and those beyond ASCII, are for the caller's dict."""
SLOTS_PER_ID = 2
"""At least; at most twice that, which is the next power of two."""
MIX = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F], np.uint64)
"""Odd constants, as in Fibonacci hashing."""

Words = tuple[NDArray[np.uint64], NDArray[np.uint64]]
"""The first and the second half of each id."""


class RowIndex:
    """Look-ups of many ids at once. Read-only, so threads may share it.

    Args:
        ids: each once, in the order of their rows.
        first: row of the first id.
    """

    def __init__(self, ids: Sequence[str], first: int) -> None:
        words = as_words(ids)
        if words is None:
            raise ValueError(f"ids: expected ASCII of at most {WIDTH} characters")
        bits = max(4, int(len(ids) * SLOTS_PER_ID).bit_length())
        self._shift = np.uint64(64 - bits)
        self._mask = (1 << bits) - 1
        # Ids by number, from 1: number 0 is nobody's, and marks a free slot.
        self._words = [np.concatenate([np.zeros(1, np.uint64), half]) for half in words]
        self._offset = first - 1
        self._numbers = np.zeros(1 << bits, np.int32)
        self._fill(words, np.arange(1, len(ids) + 1, dtype=np.int32))

    def _fill(self, words: Words, numbers: NDArray[np.int32]) -> None:
        slots = self._home(words)
        while len(numbers):
            # Of those that meet in one free slot the first takes it; the others, and those that find it taken, go on.
            takes = np.zeros(len(numbers), bool)
            takes[np.unique(slots, return_index=True)[1]] = True
            takes &= self._numbers[slots] == 0
            self._numbers[slots[takes]] = numbers[takes]
            numbers, slots = numbers[~takes], (slots[~takes] + 1) & self._mask

    def _home(self, words: Words) -> NDArray[np.int64]:
        mixed = words[0] * MIX[0] ^ words[1] * MIX[1]
        mixed ^= mixed >> np.uint64(32)
        homes: NDArray[np.int64] = ((mixed * MIX[0]) >> self._shift).astype(np.int64)
        return homes

    def find(self, words: Words, missing: int) -> NDArray[np.int64]:
        """Rows of ids given by `as_words`; `missing` where an id is not here."""
        slots = self._home(words)
        numbers = self._numbers[slots]
        is_other = (self._words[0][numbers] != words[0]) | (self._words[1][numbers] != words[1])
        while len(goes_on := np.flatnonzero(is_other & (numbers > 0))):
            slots[goes_on] = slot = (slots[goes_on] + 1) & self._mask
            numbers[goes_on] = number = self._numbers[slot]
            is_other[goes_on] = (self._words[0][number] != words[0][goes_on]) | (
                self._words[1][number] != words[1][goes_on]
            )
        rows = numbers.astype(np.int64) + self._offset
        return np.where(numbers > 0, rows, missing)


def as_words(ids: Sequence[str]) -> Words | None:
    """Ids as two words each; None if one is too long, or not ASCII."""
    if max(map(len, ids), default=0) > WIDTH:
        return None
    try:
        packed = np.array(ids, dtype=f"S{WIDTH}")
    except UnicodeEncodeError:
        return None
    halves = packed.view(np.uint64).reshape(-1, 2)
    return halves[:, 0].copy(), halves[:, 1].copy()
