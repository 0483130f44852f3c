"""Records: every round trip within its bound, and every damaged or foreign record refused."""

import struct
import zlib
from dataclasses import replace

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

from models.contract.epoch import END_OF_TIME_S
from models.contract.errors import (
    CorruptRecordError,
    ForeignRecordError,
    RecordError,
)
from models.contract.record import (
    UserRecord,
    decode_record,
    encode_record,
    record_artifact,
    record_bytes,
)
from models.contract.state_spec import RECORD_DTYPES, TensorSpec, stack_states

SPEC = (TensorSpec("rows", (3, 4)), TensorSpec("counts", (3,)))
ARTIFACT = "0123456789abcdef" * 2
FP16_STEP = 2.0**-24  # distance between neighbours around zero


def states(largest: float):
    def tensor(shape):
        return hnp.arrays(np.float32, shape, elements=st.floats(-largest, largest, width=32))

    return st.fixed_dictionaries({spec.name: tensor(spec.shape) for spec in SPEC})


user_ids = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
rows = hnp.arrays(np.int32, st.integers(0, 9))
moments = st.integers(0, END_OF_TIME_S)
dtypes = st.sampled_from(RECORD_DTYPES)


def small_record(user_id: str = "u1") -> UserRecord:
    state = {
        "rows": np.linspace(-2, 3, 12, dtype=np.float32).reshape(3, 4),
        "counts": np.array([0, 1, 2], np.float32),
    }
    return UserRecord(user_id, 1_700_000_000, np.array([5, 2], np.int32), state)


def round_trip(record: UserRecord, dtype) -> UserRecord:
    raw = encode_record(record, SPEC, ARTIFACT, dtype)
    return decode_record(raw, SPEC, ARTIFACT, record.user_id)


def assert_fp16_close(got, exact):
    """Rounding to fp16: half a unit in the last place, or half the smallest step near zero."""
    bound = np.maximum(np.abs(exact) * 2.0**-11, FP16_STEP / 2)
    assert (np.abs(got - exact) <= bound).all()


@pytest.mark.parametrize("as_of_s", [-1, END_OF_TIME_S + 1, 1_700_000_000_000])
def test_a_moment_that_is_no_epoch_second_is_not_written(as_of_s: int) -> None:
    record = replace(small_record(), as_of_s=as_of_s)
    with pytest.raises(ValueError, match=f"as_of_s: got {as_of_s}, expected an epoch second"):
        encode_record(record, SPEC, ARTIFACT, "fp32")


@pytest.mark.parametrize("as_of_s", [-1, END_OF_TIME_S + 1, 1_700_000_000_000])
def test_a_moment_that_is_no_epoch_second_is_not_read(as_of_s: int) -> None:
    body = bytearray(encode_record(small_record(), SPEC, ARTIFACT, "fp32")[:-4])
    body[32:40] = struct.pack("<q", as_of_s)
    with pytest.raises(CorruptRecordError, match=f"as_of_s: got {as_of_s}, expected an epoch"):
        decode_record(bytes(body) + struct.pack("<I", zlib.crc32(body)), SPEC, ARTIFACT)


@given(user_ids, moments, rows, states(float(np.finfo(np.float32).max)))
def test_an_fp32_round_trip_is_exact(user_id, as_of_s, recent, state):
    got = round_trip(UserRecord(user_id, as_of_s, recent, state), "fp32")

    assert (got.user_id, got.as_of_s) == (user_id, as_of_s)
    np.testing.assert_array_equal(got.recent, recent)
    for spec in SPEC:
        assert got.state[spec.name].dtype == np.float32
        np.testing.assert_array_equal(got.state[spec.name], state[spec.name])


@given(states(65504) | states(2.0**-16))
def test_an_fp16_round_trip_is_within_half_a_unit_in_the_last_place(state):
    got = round_trip(UserRecord("u", 0, np.array([], np.int32), state), "fp16")

    for spec in SPEC:
        assert_fp16_close(got.state[spec.name], state[spec.name])


@given(states(65504) | states(2.0**-16))
def test_an_int8_round_trip_is_within_half_a_step_of_the_row(state):
    """A step is the row's largest / 127, rounded up to the next fp16: larger by at most 2^-10 or one subnormal."""
    got = round_trip(UserRecord("u", 0, np.array([], np.int32), state), "int8")

    exact = state["rows"].astype(np.float64)
    step = np.abs(exact).max(-1, keepdims=True) / 127
    step = step * (1 + 2.0**-10) + FP16_STEP
    assert (np.abs(got.state["rows"] - exact) <= step / 2 * (1 + 1e-6)).all()
    assert_fp16_close(got.state["counts"], state["counts"])  # vectors stay fp16


@given(user_ids, rows, states(65504), dtypes)
def test_record_bytes_is_the_length_of_a_record(user_id, recent, state, dtype):
    raw = encode_record(UserRecord(user_id, 0, recent, state), SPEC, ARTIFACT, dtype)

    assert len(raw) == record_bytes(SPEC, dtype, len(user_id.encode()), len(recent))


@pytest.mark.parametrize("dtype", RECORD_DTYPES)
def test_every_flipped_bit_is_refused(dtype):
    raw = encode_record(small_record(), SPEC, ARTIFACT, dtype)
    whole = int.from_bytes(raw)

    for bit in range(8 * len(raw)):
        with pytest.raises(CorruptRecordError):
            decode_record((whole ^ 1 << bit).to_bytes(len(raw)), SPEC, ARTIFACT, "u1")


@pytest.mark.parametrize("dtype", RECORD_DTYPES)
def test_every_truncation_and_every_extension_is_refused(dtype):
    raw = encode_record(small_record(), SPEC, ARTIFACT, dtype)

    for size in range(len(raw)):
        with pytest.raises(CorruptRecordError, match="truncated"):
            decode_record(raw[:size], SPEC, ARTIFACT, "u1")
    with pytest.raises(CorruptRecordError, match="the header says"):
        decode_record(raw + b"\0", SPEC, ARTIFACT, "u1")


@given(
    st.binary(max_size=300)
    | st.binary(max_size=300).map(lambda tail: b"ABSR\x01\x00" + tail)
    | st.binary(max_size=300).map(lambda tail: b"ABSR\x02\x01" + tail)
)
def test_any_other_bytes_give_a_record_error(raw):
    with pytest.raises(RecordError):
        decode_record(raw, SPEC, ARTIFACT)


def test_a_record_of_another_artifact_is_refused():
    raw = encode_record(small_record(), SPEC, ARTIFACT, "fp16")

    with pytest.raises(
        ForeignRecordError, match=f"artifact is '{ARTIFACT}', expected '{'f' * 32}'"
    ):
        decode_record(raw, SPEC, "f" * 32, "u1")


def test_a_record_of_another_user_is_refused():
    raw = encode_record(small_record("ann"), SPEC, ARTIFACT, "fp16")

    with pytest.raises(ForeignRecordError, match="user is 'ann', expected 'bob'"):
        decode_record(raw, SPEC, ARTIFACT, "bob")
    assert (
        decode_record(raw, SPEC, ARTIFACT).user_id == "ann"
    )  # without a user id, any user is accepted


def test_a_record_of_another_spec_is_refused():
    raw = encode_record(small_record(), SPEC, ARTIFACT, "fp32")

    with pytest.raises(CorruptRecordError, match="payload of 60 bytes, the state spec says 64"):
        decode_record(raw, (TensorSpec("rows", (4, 4)),), ARTIFACT, "u1")


def test_a_user_id_that_is_not_utf8_is_refused():
    body = bytearray(encode_record(small_record("u1"), SPEC, ARTIFACT, "fp32")[:-4])
    body[40:42] = b"\xff\xfe"

    with pytest.raises(CorruptRecordError, match="not UTF-8"):
        decode_record(bytes(body) + struct.pack("<I", zlib.crc32(body)), SPEC, ARTIFACT)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", RECORD_DTYPES)
@pytest.mark.parametrize("name", ["rows", "counts"])
def test_a_state_that_is_not_finite_is_refused(value, dtype, name):
    record = small_record()
    record.state[name].flat[1] = value

    with pytest.raises(ValueError, match=f"state '{name}': got a value that is not finite"):
        encode_record(record, SPEC, ARTIFACT, dtype)


@pytest.mark.parametrize(
    ("dtype", "name", "value"),
    [("fp16", "rows", 70_000), ("int8", "rows", 127 * 70_000), ("int8", "counts", -70_000)],
)
def test_a_state_too_large_for_fp16_is_refused_and_not_clipped(dtype, name, value):
    record = small_record()
    record.state[name].flat[1] = value

    with pytest.raises(ValueError, match=f"state '{name}': got 7e.04, too large for fp16"):
        encode_record(record, SPEC, ARTIFACT, dtype)
    assert round_trip(record, "fp32").state[name].flat[1] == value


def test_a_state_of_another_shape_is_refused():
    record = small_record()
    state = {**record.state, "counts": np.zeros(4, np.float32)}

    with pytest.raises(ValueError, match=r"state 'counts': got \(4,\), expected \(3,\)"):
        encode_record(replace(record, state=state), SPEC, ARTIFACT, "fp32")


def test_a_state_with_other_tensor_names_is_refused():
    record = small_record()

    with pytest.raises(ValueError, match=r"got tensors \['rows'\], expected \['rows', 'counts'\]"):
        encode_record(replace(record, state={"rows": record.state["rows"]}), SPEC, ARTIFACT, "fp32")


@pytest.mark.parametrize("artifact_id", ["", "ab", ARTIFACT.upper(), ARTIFACT + "00"])
def test_a_malformed_artifact_id_is_refused(artifact_id):
    with pytest.raises(ValueError, match="expected 32 lower-case hex digits"):
        encode_record(small_record(), SPEC, artifact_id, "fp32")


def test_the_layout_is_as_documented():
    """The bytes are written by hand from the module's table: a change breaks every cache that is in use."""
    spec = (TensorSpec("rows", (2, 2)), TensorSpec("count", (1,)))
    state = {
        "rows": np.array([[127, -254], [0, 0]], np.float32),
        "count": np.array([3], np.float32),
    }
    record = UserRecord("é", 258, np.array([1, 515], np.int32), state)
    header = (
        b"ABSR"
        b"\x01"  # the codec without row counts: no tensor of the spec has one
        b"\x02"
        b"\x02\x00"
        b"\x02\x00\x00\x00"
        b"\x0a\x00\x00\x00"
        b"\x01\x23\x45\x67\x89\xab\xcd\xef\x01\x23\x45\x67\x89\xab\xcd\xef"
        b"\x02\x01\x00\x00\x00\x00\x00\x00"
    )
    user_and_recent = b"\xc3\xa9\x01\x00\x00\x00\x03\x02\x00\x00"
    scales = b"\x00\x40\x00\x00"  # 2.0 and 0.0 in fp16: the largest of a row is 127 steps
    steps = b"\x40\x81\x00\x00"  # 127 / 2 = 63.5 rounds to the even 64; -254 / 2 = -127
    count = b"\x00\x42"  # 3.0 in fp16
    body = header + user_and_recent + scales + steps + count
    assert len(header) == 40

    raw = encode_record(record, spec, ARTIFACT, "int8")

    assert raw == body + struct.pack("<I", zlib.crc32(body))


@pytest.mark.parametrize(
    ("dtype", "code", "payload"),
    [("fp32", 0, b"\x00\x00\xc0\x3f"), ("fp16", 1, b"\x00\x3e"), ("int8", 2, b"\x00\x3e")],
)
def test_each_dtype_has_its_code_and_its_bytes(dtype, code, payload):
    record = UserRecord("", 0, np.array([], np.int32), {"x": np.array([1.5], np.float32)})

    raw = encode_record(record, (TensorSpec("x", (1,)),), ARTIFACT, dtype)

    assert raw[5] == code
    assert raw[40:-4] == payload


def test_states_stack_along_a_new_batch_axis():
    one, other = small_record().state, {**small_record().state, "counts": np.ones(3, np.float32)}

    stacked = stack_states([one, other], SPEC)

    assert {name: values.shape for name, values in stacked.items()} == {
        "rows": (2, 3, 4),
        "counts": (2, 3),
    }
    np.testing.assert_array_equal(stacked["counts"][1], [1, 1, 1])


IDS = TensorSpec("ids", (2, 3), "int32")


@pytest.mark.parametrize("dtype", RECORD_DTYPES)
def test_int32_tensors_are_unchanged_in_every_dtype(dtype):
    ids = np.array([[0, 1, -7], [2**31 - 1, 65_537, 16_777_217]], np.int32)
    record = replace(small_record(), state={"ids": ids})
    raw = encode_record(record, (IDS,), ARTIFACT, dtype)
    assert len(raw) == record_bytes((IDS,), dtype, len(b"u1"), 2)
    assert IDS.stored_bytes(dtype) == 4 * 6
    decoded = decode_record(raw, (IDS,), ARTIFACT, "u1").state["ids"]
    assert decoded.dtype == np.int32
    np.testing.assert_array_equal(decoded, ids)


def test_floats_in_an_int32_tensor_are_refused():
    record = replace(small_record(), state={"ids": np.zeros((2, 3), np.float32)})
    with pytest.raises(ValueError, match="state 'ids': got float32, expected int32"):
        encode_record(record, (IDS,), ARTIFACT, "fp16")


def test_ids_beyond_int32_are_refused():
    record = replace(small_record(), state={"ids": np.full((2, 3), 2**40 + 5)})
    with pytest.raises(ValueError, match="state 'ids': got 1099511627781, too large for int32"):
        encode_record(record, (IDS,), ARTIFACT, "fp32")


def test_the_artifact_of_a_record_is_read_from_its_header():
    raw = encode_record(small_record(), SPEC, ARTIFACT, "fp16")

    assert record_artifact(raw) == ARTIFACT
    assert record_artifact(raw[:40]) == ARTIFACT  # the header alone
    assert record_artifact(raw[:39]) is None
    assert record_artifact(b"ABSQ" + raw[4:]) is None
    assert record_artifact(b"") is None


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("dtype", "offset", "tensor", "code"),
    [
        ("fp32", 4 * 11, "rows", "<f"),
        ("fp32", 4 * 12, "counts", "<f"),
        ("fp16", 2 * 11, "rows", "<e"),
        ("fp16", 2 * 12, "counts", "<e"),
        ("int8", 2 * 2, "rows", "<e"),  # a scale
        ("int8", 2 * 3 + 12, "counts", "<e"),
    ],
)
def test_a_stored_number_that_is_not_finite_is_refused(value, dtype, offset, tensor, code):
    body = bytearray(encode_record(small_record(), SPEC, ARTIFACT, dtype)[:-4])
    struct.pack_into(code, body, 40 + len(b"u1") + 4 * 2 + offset, value)

    with pytest.raises(CorruptRecordError, match=f"state '{tensor}': a value that is not finite"):
        decode_record(bytes(body) + struct.pack("<I", zlib.crc32(body)), SPEC, ARTIFACT)
