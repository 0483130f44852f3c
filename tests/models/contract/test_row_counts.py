"""Records leave empty rows out: decoding gives whole tensors again, bit for bit, and refuses every other row count."""

import struct
import tracemalloc
import zlib
from collections.abc import Mapping
from dataclasses import replace

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

from models.contract.errors import CorruptRecordError, RecordError
from models.contract.record import UserRecord, decode_record, encode_record, record_bytes
from models.contract.state_spec import (
    RECORD_DTYPES,
    Array,
    RecordDtype,
    StateSpec,
    TensorSpec,
    stored_rows,
)

SPEC = (
    TensorSpec("profile", (3,)),
    TensorSpec("slot_items", (5,), "int32", filled="first"),
    TensorSpec("slot_sums", (5, 2), filled="first"),
    TensorSpec("rows", (6,), "int32", filled="last"),
    TensorSpec("levels", (4, 3), filled="last"),
)
WHOLE = tuple(replace(tensor, filled="all") for tensor in SPEC)
"""The same tensors, of which every row is stored."""
ARTIFACT = "0123456789abcdef" * 2
OWNER = "u1"
HEADER_BYTES, NUM_COUNTS = 40, 4
each_dtype = pytest.mark.parametrize("dtype", RECORD_DTYPES)


@st.composite
def states(draw: st.DrawFn) -> dict[str, Array]:
    """Any values in any number of filled rows; zeros, -0 and rows of zeros among them."""
    state = {}
    for tensor in SPEC:
        floats = st.floats(-60_000, 60_000, width=32) | st.sampled_from([0.0, -0.0])
        drawn = hnp.arrays(np.float32, tensor.shape, elements=floats)
        if tensor.kind == "int32":
            drawn = hnp.arrays(np.int32, tensor.shape)
        values, filled = draw(drawn), draw(st.integers(0, tensor.num_rows))
        if tensor.filled == "first":
            values[filled:] = 0
        if tensor.filled == "last":
            values[: tensor.num_rows - filled] = 0
        state[tensor.name] = values
    return state


def pack(state: Mapping[str, Array], spec: StateSpec, dtype: RecordDtype) -> bytes:
    return encode_record(
        UserRecord(OWNER, 9, np.array([5, 2], np.int32), state), spec, ARTIFACT, dtype
    )


def unpack(raw: bytes, spec: StateSpec = SPEC) -> UserRecord:
    return decode_record(raw, spec, ARTIFACT, OWNER)


def bits(state: Mapping[str, Array]) -> dict[str, tuple[object, ...]]:
    return {name: (each.dtype, each.shape, each.tobytes()) for name, each in state.items()}


def three_slots() -> dict[str, Array]:
    return {
        "profile": np.array([0, 1, 0], np.float32),
        "slot_items": np.array([7, 0, 9, 0, 0], np.int32),
        "slot_sums": np.array([[1, 2], [0, 0], [3, 0], [0, 0], [0, 0]], np.float32),
        "rows": np.array([0, 0, 0, 0, 4, 0], np.int32),
        "levels": np.zeros((4, 3), np.float32),
    }


def with_payload(payload: bytes, dtype: int = 0, codec: int = 2) -> bytes:
    """A record of any payload, whose lengths and checksum are right."""
    header = struct.pack(
        "<4sBBHII16sq", b"ABSR", codec, dtype, 2, 0, len(payload), bytes.fromhex(ARTIFACT), 9
    )
    body = header + OWNER.encode() + payload
    return body + struct.pack("<I", zlib.crc32(body))


@given(states(), st.sampled_from(RECORD_DTYPES))
def test_tensors_are_those_of_a_record_that_stores_every_row(state, dtype):
    got = unpack(pack(state, SPEC, dtype))

    assert bits(got.state) == bits(unpack(pack(state, WHOLE, dtype), WHOLE).state)
    if dtype == "fp32":
        assert bits(got.state) == bits(state)


@given(states(), st.sampled_from(RECORD_DTYPES))
def test_the_size_of_a_record_follows_from_its_rows(state, dtype):
    raw, rows = pack(state, SPEC, dtype), stored_rows(state, SPEC)

    assert len(raw) == record_bytes(SPEC, dtype, len(OWNER), 2, rows)
    assert len(raw) <= record_bytes(SPEC, dtype, len(OWNER), 2)
    whole = record_bytes(WHOLE, dtype, len(OWNER), 2)
    assert record_bytes(SPEC, dtype, len(OWNER), 2) == whole + 4 * NUM_COUNTS


def test_rows_of_zeros_between_filled_rows_are_stored():
    assert stored_rows(three_slots(), SPEC) == [3, 3, 3, 2, 0]
    assert bits(unpack(pack(three_slots(), SPEC, "fp32")).state) == bits(three_slots())


@each_dtype
def test_a_user_without_events_takes_the_profile_and_the_row_counts(dtype: RecordDtype):
    empty = {name: np.zeros_like(values) for name, values in three_slots().items()}
    raw = pack(empty, SPEC, dtype)

    profile = 12 if dtype == "fp32" else 6
    assert len(raw) == HEADER_BYTES + len(OWNER) + 4 * 2 + 4 * NUM_COUNTS + profile + 4
    assert bits(unpack(raw).state) == bits(empty)


def test_the_layout_is_as_documented():
    """Written by hand: row counts as uint32 in the order of the spec, then the stored rows."""
    spec = (
        TensorSpec("items", (3,), "int32", filled="first"),
        TensorSpec("total", (1,)),
        TensorSpec("sums", (3, 2), filled="last"),
    )
    state = {
        "items": np.array([258, 0, 0], np.int32),
        "total": np.array([1.5], np.float32),
        "sums": np.array([[0, 0], [0, 3], [1.5, 0]], np.float32),
    }
    counts = b"\x01\x00\x00\x00" + b"\x02\x00\x00\x00"
    tensors = b"\x02\x01\x00\x00" + b"\x00\x3e" + b"\x00\x00\x00\x42\x00\x3e\x00\x00"

    raw = encode_record(UserRecord(OWNER, 9, np.array([], np.int32), state), spec, ARTIFACT, "fp16")

    assert raw == with_payload(counts + tensors, dtype=1)


@each_dtype
def test_records_of_codec_1_hold_every_row_and_are_still_read(dtype: RecordDtype):
    payload = pack(three_slots(), WHOLE, dtype)[HEADER_BYTES + len(OWNER) + 4 * 2 : -4]
    old = with_payload(payload, RECORD_DTYPES.index(dtype), codec=1)

    assert bits(unpack(old).state) == bits(unpack(pack(three_slots(), SPEC, dtype)).state)


def test_records_of_a_later_codec_are_refused():
    with pytest.raises(CorruptRecordError, match="not a record of codec"):
        unpack(with_payload(b"", codec=4))


@each_dtype
def test_every_flipped_bit_and_every_truncation_is_refused(dtype: RecordDtype):
    raw = pack(three_slots(), SPEC, dtype)
    whole = int.from_bytes(raw)

    for bit in range(8 * len(raw)):
        with pytest.raises(CorruptRecordError):
            unpack((whole ^ 1 << bit).to_bytes(len(raw)))
    for size in range(len(raw)):
        with pytest.raises(CorruptRecordError):
            unpack(raw[:size])


@given(
    st.lists(st.integers(0, 7) | st.integers(0, 2**32 - 1), min_size=0, max_size=6),
    st.binary(max_size=200),
    st.integers(0, 2),
    st.sampled_from([1, 2]),
)
def test_any_payload_gives_a_record_error_or_tensors_of_the_spec(counts, tail, dtype, codec):
    raw = with_payload(struct.pack(f"<{len(counts)}I", *counts) + tail, dtype, codec)

    try:
        state = unpack(raw).state
    except RecordError:
        return
    assert {name: values.shape for name, values in state.items()} == {
        tensor.name: tensor.shape for tensor in SPEC
    }


@given(states(), st.integers(0, NUM_COUNTS - 1), st.integers(0, 2**32 - 1), st.data())
def test_a_changed_row_count_is_refused(state, place, count, data):
    """With the right checksum. Two tensors whose counts change may have the old length in sum; one alone never has."""
    dtype = data.draw(st.sampled_from(RECORD_DTYPES))
    payload = bytearray(pack(state, SPEC, dtype)[HEADER_BYTES + len(OWNER) + 4 * 2 : -4])
    if payload[4 * place : 4 * place + 4] == struct.pack("<I", count):
        return
    struct.pack_into("<I", payload, 4 * place, count)

    with pytest.raises(CorruptRecordError, match=r"rows, the state spec has|with rows"):
        unpack(with_payload(bytes(payload), RECORD_DTYPES.index(dtype)))


def test_a_row_count_beyond_the_spec_is_refused_before_memory_is_taken():
    raw = with_payload(struct.pack("<4I", 2**32 - 1, 0, 0, 0) + bytes(60))

    tracemalloc.start()
    with pytest.raises(
        CorruptRecordError, match="state 'slot_items': 4294967295 rows, the state spec has 5"
    ):
        unpack(raw)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000


@pytest.mark.parametrize(("place", "name", "num_rows"), [(0, "slot_items", 5), (2, "rows", 6)])
def test_one_row_more_than_the_spec_has_is_refused(place: int, name: str, num_rows: int):
    """Also where the payload has the bytes of that row."""
    counts = [0, 0, 0, 0]
    counts[place] = num_rows + 1
    payload = struct.pack("<4I", *counts) + bytes(12 + 4 * (num_rows + 1))

    expected = f"state '{name}': {num_rows + 1} rows, the state spec has {num_rows}"
    with pytest.raises(CorruptRecordError, match=expected):
        unpack(with_payload(payload))


def test_a_payload_without_room_for_its_row_counts_is_refused():
    with pytest.raises(
        CorruptRecordError, match="payload of 15 bytes, the row counts alone have 16"
    ):
        unpack(with_payload(bytes(15)))


@pytest.mark.parametrize("change", [b"", b"\0"], ids=["short", "long"])
def test_a_payload_of_another_length_is_refused(change: bytes):
    counts = struct.pack("<4I", 1, 1, 0, 0)
    tensors = bytes(12 + 4 + 8)

    assert stored_rows(unpack(with_payload(counts + tensors)).state, SPEC) == [3, 0, 0, 0, 0]
    wrong = counts + tensors + change if change else counts + tensors[:-1]
    expected = rf"payload of {len(wrong)} bytes, the state spec says 40 with rows \[3, 1, 1, 0, 0\]"
    with pytest.raises(CorruptRecordError, match=expected):
        unpack(with_payload(wrong))


@each_dtype
def test_decoded_tensors_do_not_keep_the_record_in_memory(dtype: RecordDtype):
    raw = np.frombuffer(pack(three_slots(), SPEC, dtype), np.uint8)

    for values in unpack(raw.tobytes()).state.values():
        assert values.flags.owndata
        assert values.flags.writeable


def test_a_tensor_without_axes_has_no_row_count():
    with pytest.raises(ValueError, match=r"filled of state 'x': got 'first' for shape \(\)"):
        TensorSpec("x", (), filled="first")
