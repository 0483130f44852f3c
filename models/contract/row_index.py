"""Raw ids -> rows, for a whole slate at once: an open-addressing hash table in numpy arrays.

The strings of a large dict are scattered over memory, so that a thousand look-ups wait for memory one after the other
(1 ms with 100,000 ids). Here the first probes of a slate are one gather, whose waits overlap (0.4 ms); few ids need a
second probe.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

WIDTH = 16
"""Longest id in bytes: two 64-bit words. The caller looks up longer ids, and those beyond ASCII, in a dict."""
SLOTS_PER_ID = 4
"""Least number of slots per id; the table has the next power of two. With fewer, a slate needs more probes."""
MIX = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F], np.uint64)
"""Odd multipliers, as in Fibonacci hashing."""

Words = NDArray[np.uint64]
"""Both words of each id, [number of ids, 2], in the layout in which they are compared."""


class RowIndex:
    """Looks up many ids at once. Read-only, so that threads may share it.

    Args:
        ids: distinct ids, in the order of their rows.
        first: row of the first id.

    Raises:
        ValueError: an id is longer than `WIDTH`, or not ASCII.
    """

    def __init__(self, ids: Sequence[str], first: int) -> None:
        words = as_words(ids)
        if words is None:
            raise ValueError(
                f"ids: got one that is longer or not ASCII, expected ASCII of at most {WIDTH} characters"
            )
        bits = max(4, int(len(ids) * SLOTS_PER_ID).bit_length())
        self._shift = np.uint64(64 - bits)
        self._mask = (1 << bits) - 1
        # Ids are numbered from 1: number 0 marks a free slot.
        self._words = np.concatenate([np.zeros((1, 2), np.uint64), words])
        self._offset = first - 1
        self._numbers = np.zeros(1 << bits, np.int32)
        self._fill(words, np.arange(1, len(ids) + 1, dtype=np.int32))

    def _fill(self, words: Words, numbers: NDArray[np.int32]) -> None:
        slots = self._home(words)
        while len(numbers):
            # The first of the ids that probe a free slot takes it; all others probe the next slot.
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
        """Rows of ids, which come as `as_words` packs them; `missing` for ids that are not in the index."""
        slots = self._home(words)
        numbers, unresolved = self._probe(slots, words)
        while len(unresolved):
            slots[unresolved] = slot = (slots[unresolved] + 1) & self._mask
            numbers[unresolved], still = self._probe(slot, words[unresolved])
            unresolved = unresolved[still]
        rows = numbers.astype(np.int64) + self._offset
        rows[numbers == 0] = missing
        return rows

    def _probe(
        self, slots: NDArray[np.int64], words: Words
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """The numbers in the slots, and the indices of those that belong to another id."""
        numbers = self._numbers.take(slots)
        differs = self._words.take(numbers, 0) != words
        return numbers, np.flatnonzero((differs[:, 0] | differs[:, 1]) & (numbers > 0))


def as_words(ids: Sequence[str]) -> Words | None:
    """Pack each id into two words. None if an id is longer than `WIDTH`, or not ASCII."""
    if max(map(len, ids), default=0) > WIDTH:
        return None
    try:
        packed = np.array(ids, dtype=f"S{WIDTH}")
    except UnicodeEncodeError:
        return None
    return packed.view(np.uint64).reshape(-1, 2)
