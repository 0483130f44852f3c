"""How old an event is, as one of a few buckets: the time gap of SIM (2006.05639) and TWIN (2302.02352).

Ages count back from the moment a state describes: a target's time in training, the record's `as_of_s` in the cache.
"""

import numpy as np
from numpy.typing import NDArray

from models.contract.schema import PADDING

UNIT_S = 60
"""Buckets are logarithmic above a minute, two to the octave: … 17 to 24 hours, 24 to 34 hours, …"""
PER_OCTAVE = 2
NUM_AGES = 50
"""Ids, `PADDING` included; the last one holds everything from some 30 years up."""


def age_buckets(seconds: NDArray[np.integer]) -> NDArray[np.int64]:
    """Ids 1 … NUM_AGES − 1 of ages in seconds; a negative age counts as none."""
    octaves = np.log2(1 + np.maximum(seconds, 0) / UNIT_S)
    buckets: NDArray[np.int64] = 1 + (PER_OCTAVE * octaves).astype(np.int64)
    buckets[buckets >= NUM_AGES] = NUM_AGES - 1
    return buckets


def bucket_days() -> NDArray[np.float32]:
    """Age in days in the (logarithmic) middle of each bucket, [NUM_AGES]; 0 for padding."""
    octaves = (np.arange(NUM_AGES) - 0.5) / PER_OCTAVE
    days = (2**octaves - 1) * UNIT_S / 86_400
    days[PADDING] = 0
    return days.astype(np.float32)
