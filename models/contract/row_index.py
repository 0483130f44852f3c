"""Raw ids -> rows, for a whole slate at once: an open-addressing hash table in numpy arrays.

A dict of 100,000 strings lies scattered over memory: a thousand look-ups wait a thousand times for it, one after the
other (1 ms). Here all of a slate's first probes are one gather, whose waits overlap (0.4 ms), and few need a second.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

WIDTH = 16
"""Bytes of the ids that fit: two 64-bit words. Others, and those beyond ASCII, are for the caller's dict."""
SLOTS_PER_ID = 4
"""At least; at most twice that, which is the next power of two. The fewer, the more rounds a slate takes."""
MIX = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F], np.uint64)
"""Odd constants, as in Fibonacci hashing."""

Words = NDArray[np.uint64]
"""Both halves of each id, [number of ids, 2]: side by side, as they are compared."""


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
        self._words = np.concatenate([np.zeros((1, 2), np.uint64), words])
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
        mixed = words * MIX
        mixed = mixed[:, 0] ^ mixed[:, 1]
        mixed ^= mixed >> np.uint64(32)
        homes: NDArray[np.int64] = ((mixed * MIX[0]) >> self._shift).astype(np.int64)
        return homes

    def find(self, words: Words, missing: int) -> NDArray[np.int64]:
        """Rows of ids given by `as_words`; `missing` where an id is not here."""
        slots = self._home(words)
        numbers, goes_on = self._look(slots, words)
        while len(goes_on):
            slots[goes_on] = slot = (slots[goes_on] + 1) & self._mask
            numbers[goes_on], further = self._look(slot, words[goes_on])
            goes_on = goes_on[further]
        rows = numbers.astype(np.int64) + self._offset
        rows[numbers == 0] = missing
        return rows

    def _look(
        self, slots: NDArray[np.int64], words: Words
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """What lies in the slots, and where that is another id than the one looked for."""
        numbers = self._numbers.take(slots)
        differs = self._words.take(numbers, 0) != words
        return numbers, np.flatnonzero((differs[:, 0] | differs[:, 1]) & (numbers > 0))


def as_words(ids: Sequence[str]) -> Words | None:
    """Ids as two words each; None if one is too long, or not ASCII."""
    if max(map(len, ids), default=0) > WIDTH:
        return None
    try:
        packed = np.array(ids, dtype=f"S{WIDTH}")
    except UnicodeEncodeError:
        return None
    return packed.view(np.uint64).reshape(-1, 2)
