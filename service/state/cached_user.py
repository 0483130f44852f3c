"""A user's record as the host tier stores it: decoded, checked, with memory of its own; and its size in bytes.

While a rolling publish (`builder/publish/rolling.py`) overwrites a generation in place, each record changes once. The
host tier may hold the old record until it expires or the publish ends. It refers to the artifact that made it, so a
record is never scored by another artifact.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.contract.errors import CorruptRecordError
from models.contract.record import UserRecord, check_ids, decode_record
from service.generations.serving import Serving

ABSENT_BYTES = 240
"""Size of an absent user's entry without the id: 218 measured by tracemalloc (CPython 3.11)."""
USER_BYTES = 300
"""What a record adds, without its arrays: 270 measured."""
ARRAY_BYTES = 160
"""What an array adds, without its numbers: 128 measured for two axes, and 16 for malloc."""


@dataclass(frozen=True, slots=True)
class CachedUser:
    """A record that was read and checked.

    Attributes:
        serving: generation whose artifact made the record; only its scorer may score it.
        as_of_s: epoch second up to which events are in the state.
        recent: catalogue rows of the latest events, newest last.
        state: tensor name -> array, as the state spec says.
    """

    serving: Serving
    as_of_s: int
    recent: NDArray[np.int64]
    state: Mapping[str, NDArray[Any]]


def read_record(raw: bytes, maker: Serving, user_id: str) -> UserRecord:
    """Decode a record, and reject what the schema does not allow: the graph would fail on it.

    Args:
        raw: value from the cache.
        maker: generation whose artifact made the record (`Serving.maker_of`).
        user_id: the user that was looked up.

    Raises:
        CorruptRecordError: the bytes are not a record, hold a number that is not finite, or more latest items than
            the schema has, or refer to rows beyond the catalogue or to ages beyond the last bucket.
        ForeignRecordError: the record is of another artifact or of another user.
    """
    artifact = maker.artifact
    schema, spec = artifact.manifest.schema, artifact.manifest.state_spec
    record = decode_record(raw, spec, artifact.artifact_id, user_id, schema.recent_length)
    if ((record.recent < 0) | (record.recent >= schema.num_items)).any():
        raise CorruptRecordError(f"recent: rows beyond the catalogue's {schema.num_items}")
    check_ids(record.state, spec, schema.num_items)
    return record


def read_user(raw: bytes, serving: Serving, user_id: str) -> CachedUser:
    """As `read_record`, without any view of `raw`, which would keep all its bytes in memory.

    Raises:
        RecordError: as `read_record`.
    """
    maker = serving.maker_of(raw)
    record = read_record(raw, maker, user_id)
    return CachedUser(maker, record.as_of_s, record.recent.astype(np.int64), record.state)


def footprint(user_id: str, user: CachedUser | None) -> int:
    """Size of an entry in bytes; `user` is None for an entry that notes an absent user."""
    num_bytes = ABSENT_BYTES + sys.getsizeof(user_id)
    if user is None:
        return num_bytes
    arrays = [user.recent, *user.state.values()]
    return num_bytes + USER_BYTES + sum(ARRAY_BYTES + array.nbytes for array in arrays)
