"""Codec 3: records that live events were folded into."""

import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.contract.epoch import END_OF_TIME_S
from models.contract.errors import CorruptRecordError
from models.contract.record import (
    MARK,
    Mark,
    UserRecord,
    decode_record,
    encode_record,
    record_artifact,
    record_version,
)
from models.contract.state_spec import RECORD_DTYPES, TensorSpec

SPEC = (TensorSpec("rows", (3, 4), filled="first"), TensorSpec("counts", (3,)))
ARTIFACT = "0123456789abcdef" * 2
RECORD = UserRecord(
    "ann",
    1_700_000_000,
    np.array([5, 2], np.int32),
    {
        "rows": np.array([[1, 2, 3, 4], [0] * 4, [0] * 4], np.float32),
        "counts": np.ones(3, np.float32),
    },
)
marks = st.builds(
    Mark,
    st.integers(0, 2**64 - 1),
    st.integers(0, END_OF_TIME_S),
    st.integers(0, 2**16 - 1),
    st.integers(0, 2**64 - 1),
)


@given(marks, st.sampled_from(RECORD_DTYPES))
def test_a_mark_survives_the_round_trip_and_changes_nothing_else(mark, dtype):
    raw = encode_record(replace(RECORD, mark=mark), SPEC, ARTIFACT, dtype)

    got = decode_record(raw, SPEC, ARTIFACT, "ann")

    assert (got.mark, got.version, record_version(raw)) == (mark, mark.version, mark.version)
    assert record_artifact(raw) == ARTIFACT
    plain = decode_record(encode_record(RECORD, SPEC, ARTIFACT, dtype), SPEC, ARTIFACT, "ann")
    np.testing.assert_array_equal(got.recent, plain.recent)
    for name, values in plain.state.items():
        np.testing.assert_array_equal(got.state[name], values)


def test_the_layout_is_that_of_codec_2_with_the_mark_before_the_checksum():
    plain = encode_record(RECORD, SPEC, ARTIFACT, "fp16")
    body = bytearray(plain[:-4] + struct.pack("<QqHQ", 7, 1_600_000_000, 3, 9))
    body[4] = 3

    raw = encode_record(replace(RECORD, mark=Mark(7, 1_600_000_000, 3, 9)), SPEC, ARTIFACT, "fp16")

    assert raw == bytes(body) + struct.pack("<I", zlib.crc32(body))


def test_a_record_that_a_publish_wrote_has_version_0():
    raw = encode_record(RECORD, SPEC, ARTIFACT, "fp32")

    assert raw[4] == 2
    assert record_version(raw) == 0
    assert decode_record(raw, SPEC, ARTIFACT).version == 0
    assert record_version(b"ABSR\x03") == 0


@pytest.mark.parametrize(
    "mark",
    [Mark(-1, 0), Mark(2**64, 0), Mark(0, -1), Mark(0, END_OF_TIME_S + 1), Mark(0, 0, 2**16)],
)
def test_a_mark_that_cannot_be_stored_is_refused(mark):
    with pytest.raises(ValueError, match=r"mark: got|as_of_s: got"):
        encode_record(replace(RECORD, mark=mark), SPEC, ARTIFACT, "fp32")


def test_every_flipped_bit_and_every_truncation_is_refused():
    raw = encode_record(replace(RECORD, mark=Mark(7, 9, 3)), SPEC, ARTIFACT, "int8")
    whole = int.from_bytes(raw)

    for bit in range(8 * len(raw)):
        with pytest.raises(CorruptRecordError):
            decode_record((whole ^ 1 << bit).to_bytes(len(raw)), SPEC, ARTIFACT, "ann")
    for size in range(len(raw)):
        with pytest.raises(CorruptRecordError, match="truncated"):
            decode_record(raw[:size], SPEC, ARTIFACT, "ann")


@pytest.mark.parametrize("moment", [-1, END_OF_TIME_S + 1, 2**63 - 1, -(2**63)])
def test_a_moment_that_is_no_epoch_second_is_not_read(moment):
    raw = encode_record(replace(RECORD, mark=Mark(7, 9, 3)), SPEC, ARTIFACT, "fp32")
    body = raw[: -4 - MARK.size] + MARK.pack(7, moment, 3, 9)

    with pytest.raises(CorruptRecordError, match="as_of_s"):
        decode_record(body + struct.pack("<I", zlib.crc32(body)), SPEC, ARTIFACT)
