"""Records with a right checksum and a hostile content: what a faulty or malicious writer leaves in the cache."""

import struct
from collections.abc import Sequence

from hypothesis import strategies as st

from loadtest.chaos.faults.record import sealed
from models.contract.record import CHECKSUM, HEADER

RECENT_AT = struct.calcsize("<4sBBH")
AS_OF_AT = struct.calcsize("<4sBBHII16s")
FP32 = [
    struct.pack("<f", value)
    for value in (float("nan"), float("inf"), -float("inf"), -1e30, 3.4e38, -3.4e38, 1e-45)
]
SIGNALLING = [struct.pack("<I", 0x7F800001), struct.pack("<H", 0x7C01)]
"""NaNs that raise a flag of the processor when they are converted."""
FP16 = [
    struct.pack("<e", value)
    for value in (float("nan"), float("inf"), -float("inf"), 65504.0, -65504.0)
]
WORDS = [*FP32, *FP16, *SIGNALLING, b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80"]
MOMENTS = [0, -1, 2**63 - 1, -(2**63), 2**53 + 1]


def forged(raw: bytes, at: int, new: bytes) -> bytes:
    """The record with other bytes from a position on, and the right checksum."""
    return sealed((raw[:at] + new + raw[at + len(new) :])[: -CHECKSUM.size])


def payload_at(raw: bytes) -> int:
    """Position of a record's payload: the row counts, if the codec has them, then the tensors."""
    _, _, _, user_size, num_recent, *_ = HEADER.unpack_from(raw)
    return int(HEADER.size + user_size + 4 * num_recent)


def with_recent(raw: bytes, rows: Sequence[int]) -> bytes:
    """The record with other rows of latest items, and the right checksum."""
    _, _, _, user_size, *_ = HEADER.unpack_from(raw)
    head = raw[: HEADER.size + user_size]
    head = head[:RECENT_AT] + struct.pack("<I", len(rows)) + head[RECENT_AT + 4 :]
    recent = struct.pack(f"<{len(rows)}i", *rows)
    return sealed(head + recent + raw[payload_at(raw) : -CHECKSUM.size])


@st.composite
def hostile_records(draw: st.DrawFn, good: bytes) -> bytes:
    """A record with one to four hostile changes, each in the payload, in the latest items or in the header."""
    raw = good
    for _ in range(draw(st.integers(1, 4))):
        start, end = payload_at(raw), len(raw) - CHECKSUM.size
        kind = draw(st.sampled_from(["word", "word", "fill", "recent", "moment"]))
        if kind == "word":
            word = draw(st.sampled_from(WORDS) | st.binary(min_size=2, max_size=4))
            raw = forged(raw, draw(st.integers(start, end - len(word))), word)
        elif kind == "fill":
            word = draw(st.sampled_from(WORDS))
            begin = draw(st.integers(start, end - len(word)))
            raw = forged(raw, begin, word * ((end - begin) // len(word)))
        elif kind == "recent":
            rows = st.sampled_from([0, 1, 2, 31, 32, -1, 2**31 - 1, -(2**31)])
            raw = with_recent(raw, draw(st.lists(rows, max_size=5) | st.just([2] * 5000)))
        else:
            moment = struct.pack("<q", draw(st.sampled_from(MOMENTS)))
            raw = forged(raw, AS_OF_AT, moment)
    return raw
