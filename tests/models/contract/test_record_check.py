"""Checks of many records at once accept what `decode_record` accepts, and nothing else."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.contract.errors import RecordError
from models.contract.record import Mark, UserRecord, decode_record, encode_record, record_owner
from models.contract.record_check import RecordCheck
from models.contract.state_spec import RECORD_DTYPES, RecordDtype, TensorSpec
from models.live.history import (
    BaseHistory,
    decode_history,
    encode_history,
    history_owner,
    is_history,
)
from tests.fuzzing import drawn
from tests.hostile_records import hostile_records

ARTIFACT = "0123456789abcdef" * 2
WHOLE = (TensorSpec("rows", (4, 8)), TensorSpec("counts", (4,)))
FILLED = (
    TensorSpec("ids", (6,), "int32", "last"),
    TensorSpec("rows", (6, 4), filled="first"),
    TensorSpec("total", ()),
    TensorSpec("deep", (2, 3, 4)),
)


def raw_of(user: str, spec: tuple[TensorSpec, ...], dtype: RecordDtype, filled: int = 3) -> bytes:
    rng = np.random.default_rng(filled)
    state = {}
    for tensor in spec:
        values = rng.normal(size=tensor.shape).astype(np.float32)
        whole = values if tensor.kind == "float" else rng.integers(1, 99, tensor.shape, np.int32)
        state[tensor.name] = np.asarray(whole)
        if tensor.filled == "first":
            state[tensor.name][filled:] = 0
        if tensor.filled == "last":
            state[tensor.name][: tensor.num_rows - filled] = 0
    return encode_record(
        UserRecord(user, 7, np.arange(2, dtype=np.int32), state), spec, ARTIFACT, dtype
    )


@pytest.mark.parametrize("dtype", RECORD_DTYPES)
@pytest.mark.parametrize("spec", [WHOLE, FILLED], ids=["whole", "filled"])
def test_right_records_are_right(spec, dtype: RecordDtype):
    records = [(f"ü{n}", raw_of(f"ü{n}", spec, dtype, n)) for n in range(6)]

    assert RecordCheck(spec, ARTIFACT).are_right(records)
    assert [record_owner(raw) for _, raw in records] == [user for user, _ in records]


@pytest.mark.parametrize("dtype", RECORD_DTYPES)
def test_one_wrong_record_among_right_ones_is_found(dtype: RecordDtype):
    right = [(f"u{n}", raw_of(f"u{n}", FILLED, dtype, n)) for n in range(6)]
    raw = right[3][1]
    wrong = {
        "other user": ("u4", raw),
        "cut": ("u3", raw[:-1]),
        "nothing": ("u3", b""),
        "a bit": ("u3", raw[:70] + bytes([raw[70] ^ 1]) + raw[71:]),
    }
    for what, entry in wrong.items():
        assert not RecordCheck(FILLED, ARTIFACT).are_right([*right[:3], entry, *right[4:]]), what
    assert not RecordCheck(FILLED, "f" * 32).are_right(right)


def test_a_record_of_a_worker_is_none_of_a_publish():
    state = {"rows": np.ones((4, 8), np.float32), "counts": np.ones(4, np.float32)}
    record = UserRecord("u", 7, np.arange(2, dtype=np.int32), state, Mark(1, 7))
    raw = encode_record(record, WHOLE, ARTIFACT, "fp16")

    assert not RecordCheck(WHOLE, ARTIFACT).are_right([("u", raw)])


@given(st.data(), st.sampled_from(RECORD_DTYPES), st.sampled_from([WHOLE, FILLED]))
@drawn(300)
def test_hostile_records_are_judged_as_decode_record_judges_them(data, dtype, spec):
    raw = data.draw(hostile_records(raw_of("user", spec, dtype)))
    try:
        decode_record(raw, spec, ARTIFACT, "user")
        is_right = True
    except RecordError:
        is_right = False

    other = [("u1", raw_of("u1", spec, dtype)), ("u2", raw_of("u2", spec, dtype))]
    assert RecordCheck(spec, ARTIFACT).are_right([other[0], ("user", raw), other[1]]) == is_right


@given(st.data())
@drawn(300)
def test_base_histories_are_judged_as_decode_history_judges_them(data):
    rows = np.arange(4, dtype=np.int32)
    good = encode_history(BaseHistory("user", ARTIFACT, 7, rows[:2], rows, np.arange(4)))
    at, new = data.draw(st.integers(0, len(good) - 1)), data.draw(st.binary(max_size=4))
    raw = good[:at] + new + good[at + data.draw(st.sampled_from([0, len(new)])) :]
    try:
        decode_history(raw, ARTIFACT, "user")
        is_right = True
    except RecordError:
        is_right = False

    assert is_history(raw, ARTIFACT, "user") == is_right
    assert history_owner(good) == "user"
