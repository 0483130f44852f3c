"""What the host tier keeps of a user: decoded, checked and owning its memory; and what that weighs.

While a generation is being written in place (`builder/publish/rolling.py`), the value under a key changes once.
What is kept of
it may be the old record until its age is over or the publish ends, whichever comes first; it holds on to the artifact
that made it, so its score is never a mixture.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.contract.errors import CorruptRecordError
from models.contract.record import UserRecord, decode_record
from service.generations.serving import Serving

ABSENT_BYTES = 240
"""An entry without a user, beside its id: measured 218 by tracemalloc (CPython 3.11), slots of tables included."""
USER_BYTES = 300
"""What a user adds, beside the arrays: measured 270."""
ARRAY_BYTES = 160
"""What an array adds, beside its numbers: measured 128 with two axes, and 16 of malloc's."""


@dataclass(frozen=True, slots=True)
class CachedUser:
    """A record that was read and checked, and what may score it.

    Attributes:
        serving: artifact and scorer that made the record.
        as_of_s: epoch second up to which events are in the state.
        recent: catalogue rows of the latest events, newest last.
        state: tensor name -> array, as the state spec says.
    """

    serving: Serving
    as_of_s: int
    recent: NDArray[np.int64]
    state: Mapping[str, NDArray[Any]]


def read_record(raw: bytes, maker: Serving, user_id: str) -> UserRecord:
    """Decode a record and refuse rows that the catalogue does not have: the graph would fail on them.

    Args:
        raw: from the cache.
        maker: what should have made it (`Serving.maker_of`).
        user_id: whose it should be.

    Raises:
        CorruptRecordError: the bytes are no record, or hold such rows.
        ForeignRecordError: a record of another artifact, or of another user.
    """
    manifest = maker.artifact.manifest
    record = decode_record(raw, manifest.state_spec, maker.artifact.artifact_id, user_id)
    if ((record.recent < 0) | (record.recent >= manifest.schema.num_items)).any():
        raise CorruptRecordError(f"recent: rows beyond the catalogue's {manifest.schema.num_items}")
    return record


def read_user(raw: bytes, serving: Serving, user_id: str) -> CachedUser:
    """As `read_record`, and copied out of `raw`: a view of a few numbers would keep all of its bytes.

    Raises:
        CorruptRecordError: the bytes are no record, or hold rows beyond the catalogue.
        ForeignRecordError: a record of another artifact, or of another user.
    """
    maker = serving.maker_of(raw)
    record = read_record(raw, maker, user_id)
    state = {name: np.array(values) for name, values in record.state.items()}
    return CachedUser(maker, record.as_of_s, record.recent.astype(np.int64), state)


def footprint(user_id: str, user: CachedUser | None) -> int:
    """Bytes that an entry takes; `user` is None where the entry says that there is none."""
    num_bytes = ABSENT_BYTES + sys.getsizeof(user_id)
    if user is None:
        return num_bytes
    arrays = [user.recent, *user.state.values()]
    return num_bytes + USER_BYTES + sum(ARRAY_BYTES + one.nbytes for one in arrays)
