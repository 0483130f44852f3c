"""Whether many records at once are what `decode_record` accepts, without building their arrays. numpy only."""

import zlib
from collections.abc import Sequence

from models.contract.epoch import END_OF_TIME_S
from models.contract.errors import CorruptRecordError
from models.contract.record import (
    CHECKSUM,
    CODECS,
    HEADER,
    MAGIC,
    MARKED_CODEC,
    WHOLE_CODEC,
)
from models.contract.state_spec import RECORD_DTYPES, StateSpec
from models.contract.tensor_bytes import float_parts, require_finite


class RecordCheck:
    """Checks records of one artifact.

    It accepts no record that `decode_record` refuses. It refuses those of codec 3, which no publish writes.
    """

    def __init__(self, spec: StateSpec, artifact_id: str) -> None:
        self._spec = spec
        self._artifact = bytes.fromhex(artifact_id)

    def are_right(self, records: Sequence[tuple[str, bytes]]) -> bool:
        """Whether each record is whole, of its user, and holds finite numbers only.

        Args:
            records: user id and bytes of any origin.
        """
        floats: dict[int, list[memoryview]] = {2: [], 4: []}
        try:
            if not all(self._is_right(raw, user_id, floats) for user_id, raw in records):
                return False
            for size, parts in floats.items():
                require_finite(b"".join(parts), size)
        except CorruptRecordError:
            return False
        return True

    def _is_right(self, raw: bytes, user_id: str, floats: dict[int, list[memoryview]]) -> bool:
        """Whether a record is right but for its floats, which are added to the others by their size in bytes."""
        if len(raw) < HEADER.size + CHECKSUM.size:
            return False
        magic, codec, dtype, user_size, num_recent, payload_size, artifact, as_of_s = (
            HEADER.unpack_from(raw)
        )
        start = HEADER.size + user_size
        end = start + 4 * num_recent + payload_size
        if not (
            magic == MAGIC
            and codec in CODECS
            and codec != MARKED_CODEC
            and dtype < len(RECORD_DTYPES)
            and len(raw) == end + CHECKSUM.size
            and artifact == self._artifact
            and raw[HEADER.size : start] == user_id.encode()
            and 0 <= as_of_s <= END_OF_TIME_S
            and zlib.crc32(memoryview(raw)[:-4]) == CHECKSUM.unpack_from(raw, end)[0]
        ):
            return False
        payload = memoryview(raw)[end - payload_size : end]
        for size, part in float_parts(
            payload, self._spec, RECORD_DTYPES[dtype], has_row_counts=codec != WHOLE_CODEC
        ):
            floats[size].append(part)
        return True
