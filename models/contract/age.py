"""Age of an event as one of a few buckets: the time gap of SIM (arXiv:2006.05639) and TWIN (arXiv:2302.02352).

Ages are measured from the time that a state describes: the time of the target in training, `as_of_s` in a record of a
build, and what `models/live/ages.py` says in a record that followed events.
"""

import numpy as np
from numpy.typing import NDArray

from models.contract.schema import PADDING

UNIT_S = 60
"""Buckets are logarithmic above this age."""
PER_OCTAVE = 2
"""Buckets per doubling of the age: … 17 to 24 hours, 24 to 34 hours, …"""
NUM_AGES = 50
"""Number of ids, `PADDING` included. The last bucket holds ages from about 30 years up."""

MAX_GAP_S = 366 * 86_400


def age_buckets(seconds: NDArray[np.integer]) -> NDArray[np.int64]:
    """Bucket ids 1 … NUM_AGES − 1 of ages in seconds; a negative age counts as 0."""
    octaves = np.log2(1 + np.maximum(seconds, 0) / UNIT_S)
    buckets: NDArray[np.int64] = 1 + (PER_OCTAVE * octaves).astype(np.int64)
    buckets[buckets >= NUM_AGES] = NUM_AGES - 1
    return buckets


def require_gap(gap_s: object) -> None:
    """Raise ValueError unless a manifest's `request_gap_s` is a whole number of seconds within a year."""
    if type(gap_s) is not int or not 0 <= gap_s <= MAX_GAP_S:
        raise ValueError(
            f"request_gap_s: got {gap_s!r}, expected a whole number from 0 to {MAX_GAP_S}"
        )


def bucket_days() -> NDArray[np.float32]:
    """Age in days at the logarithmic middle of each bucket, [NUM_AGES]; 0 for padding."""
    octaves = (np.arange(NUM_AGES) - 0.5) / PER_OCTAVE
    days = (2**octaves - 1) * UNIT_S / 86_400
    days[PADDING] = 0
    return days.astype(np.float32)
