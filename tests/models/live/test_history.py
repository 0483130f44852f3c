"""Base histories: round trips, and every damaged or foreign one refused."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.contract.epoch import END_OF_TIME_S
from models.contract.errors import CorruptRecordError, ForeignRecordError
from models.live.history import BaseHistory, decode_history, encode_history, history_bytes

ARTIFACT = "0123456789abcdef" * 2
ANN = BaseHistory(
    "änn",
    ARTIFACT,
    1_700_000_001,
    np.array([2, 1], np.int32),
    np.array([5, 1, 5], np.int32),
    np.array([0, 1_699_999_999, 1_700_000_000]),
)


@given(st.lists(st.tuples(st.integers(0, END_OF_TIME_S), st.integers(0, 2**31 - 1)), max_size=30))
def test_a_round_trip_is_exact(events):
    events = sorted(events, key=lambda event: event[0])
    ts_s = np.array([ts_s for ts_s, _ in events], np.int64)
    history = replace(ANN, rows=np.array([row for _, row in events], np.int32), ts_s=ts_s)

    raw = encode_history(history)
    got = decode_history(raw, ARTIFACT, "änn")

    assert len(raw) == history_bytes(len("änn".encode()), 2, len(events))
    assert (got.user_id, got.artifact_id, got.as_of_s) == ("änn", ARTIFACT, 1_700_000_001)
    for name in ("user_fields", "rows", "ts_s"):
        np.testing.assert_array_equal(getattr(got, name), getattr(history, name))


def test_every_flipped_bit_and_every_truncation_is_refused():
    raw = encode_history(ANN)
    whole = int.from_bytes(raw)

    for bit in range(8 * len(raw)):
        with pytest.raises(CorruptRecordError):
            decode_history((whole ^ 1 << bit).to_bytes(len(raw)), ARTIFACT, "änn")
    for size in range(len(raw)):
        with pytest.raises(CorruptRecordError):
            decode_history(raw[:size])


def test_a_foreign_history_is_refused():
    raw = encode_history(ANN)
    with pytest.raises(ForeignRecordError, match="artifact of the base history"):
        decode_history(raw, "f" * 32)
    with pytest.raises(ForeignRecordError, match="user of the base history"):
        decode_history(raw, ARTIFACT, "bob")


@pytest.mark.parametrize(
    "change",
    [
        {"ts_s": np.array([3, 2, 4])},
        {"ts_s": np.array([-1, 2, 4])},
        {"ts_s": np.array([1, 2, END_OF_TIME_S + 1])},
        {"ts_s": np.array([1, 2])},
        {"artifact_id": "00"},
    ],
)
def test_what_no_build_knows_is_not_written(change):
    with pytest.raises(ValueError, match="history: got"):
        encode_history(replace(ANN, **change))
