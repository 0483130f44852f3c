"""The prepared task: integer arrays in one compressed file; reading it needs numpy only."""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FIRST_WEEK, VALIDATION_WEEK, TEST_WEEK = 24, 45, 48
"""First weeks of training, validation and test: slates begin in week 24, after almost half a year of history."""
PARTS = ("train", "validation", "test")
FILE = "promotions.npz"


@dataclass(frozen=True)
class Prepared:
    """Slates of visits, the events behind them, and the catalogue.

    Attributes:
        item_fields: int16 [V, 5] type, category, department, maker, popularity; row 0 is padding.
        event_row: int32 [E] catalogue row of each purchase, by household and time.
        event_hour: int16 [E] hours since the log's first event.
        pool_first: int32 [S + 1] where each pool (a store in a week) begins.
        pool_row: int32 [P] promoted products, rising within a pool.
        pool_display: uint8 [P] where in the shop it was displayed; 0: nowhere.
        pool_mailer: uint8 [P] where in the mailer it was; 0: nowhere.
        household: int16 [N] household of the visit; visits are in the order of time.
        week: int8 [N].
        hour: int16 [N], as `event_hour`.
        pool: int32 [N] number of the visit's pool.
        start: int32 [N] the household's first event.
        end: int32 [N] its first event that is not before the visit: history is event[start:end].
        positive_first: int32 [N + 1] where each visit's positives begin.
        positive_place: uint16 [Q] places in the pool of what was bought, rising within a visit.
    """

    item_fields: NDArray[np.int16]
    event_row: NDArray[np.int32]
    event_hour: NDArray[np.int16]
    pool_first: NDArray[np.int32]
    pool_row: NDArray[np.int32]
    pool_display: NDArray[np.uint8]
    pool_mailer: NDArray[np.uint8]
    household: NDArray[np.int16]
    week: NDArray[np.int8]
    hour: NDArray[np.int16]
    pool: NDArray[np.int32]
    start: NDArray[np.int32]
    end: NDArray[np.int32]
    positive_first: NDArray[np.int32]
    positive_place: NDArray[np.uint16]

    def part(self, name: str) -> NDArray[np.int64]:
        """Visits of a part: "train", "validation" or "test"."""
        low, high = {
            "train": (FIRST_WEEK, VALIDATION_WEEK),
            "validation": (VALIDATION_WEEK, TEST_WEEK),
            "test": (TEST_WEEK, 127),
        }[name]
        return np.flatnonzero((self.week >= low) & (self.week < high))

    def pool_of(self, visit: int) -> slice:
        """The visit's candidates, as a slice of the pools' arrays."""
        first = self.pool_first[self.pool[visit]], self.pool_first[self.pool[visit] + 1]
        return slice(int(first[0]), int(first[1]))

    def positives_of(self, visit: int) -> NDArray[np.int64]:
        """Places in its pool of what the visit bought."""
        places = self.positive_place[self.positive_first[visit] : self.positive_first[visit + 1]]
        return places.astype(np.int64)

    def labels_of(self, visit: int) -> NDArray[np.bool_]:
        """Whether each candidate of the visit's pool was bought."""
        here = self.pool_of(visit)
        label = np.zeros(here.stop - here.start, bool)
        label[self.positives_of(visit)] = True
        return label

    def save(self, folder: Path) -> Path:
        """Write the file; rows of pools as differences, low and high bytes apart, which compress well."""
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {f.name: getattr(self, f.name) for f in fields(self)}
        step = np.diff(arrays.pop("pool_row"), prepend=np.int32(0)).astype("<i4")
        for byte in range(3):
            arrays[f"pool_step_{byte}"] = ((step >> (8 * byte)) & 255).astype(np.uint8)
        np.savez_compressed(folder / FILE, **arrays)
        return folder / FILE

    @classmethod
    def load(cls, folder: Path) -> "Prepared":
        """Read it back."""
        with np.load(folder / FILE, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        step = sum(
            arrays.pop(f"pool_step_{byte}").astype(np.int32) << (8 * byte) for byte in range(3)
        )
        step = np.where(step >= 1 << 23, step - (1 << 24), step)
        return cls(pool_row=np.cumsum(step, dtype=np.int32), **arrays)
