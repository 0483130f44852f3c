"""Compare-and-set on a real server: only over the record that was read."""

from dataclasses import replace

import numpy as np
import pytest

from models.contract.record import Mark, UserRecord, encode_record
from models.contract.state_spec import TensorSpec
from models.live.store import compare_and_remove, compare_and_set

SPEC = (TensorSpec("counts", (3,)),)
ARTIFACT = "0123456789abcdef" * 2
STATE = {"counts": np.ones(3, np.float32)}
RECORD = UserRecord("ann", 9, np.array([5], np.int32), STATE)


def raw(version: int | None = None, value: float = 1.0, artifact_id: str = ARTIFACT) -> bytes:
    mark = None if version is None else Mark(version, 9)
    state = {"counts": np.full(3, value, np.float32)}
    return encode_record(replace(RECORD, mark=mark, state=state), SPEC, artifact_id, "fp32")


def test_a_record_is_written_over_the_one_that_was_read(client):
    client.set("k", raw())

    assert compare_and_set(client, "k", raw(), raw(1)) == 1
    assert compare_and_set(client, "k", raw(1), raw(2)) == 1
    assert client.get("k") == raw(2)


def test_a_new_user_is_written_once(client):
    assert compare_and_set(client, "k", None, raw(1)) == 1
    assert compare_and_set(client, "k", None, raw(2)) == 0
    assert client.get("k") == raw(1)


@pytest.mark.parametrize(
    "stored", [raw(), raw(2), raw(1, 2.0), raw(1, artifact_id="f" * 32), b"short", b""]
)
def test_another_record_stays(client, stored):
    client.set("k", stored)

    assert compare_and_set(client, "k", raw(1), raw(3)) == 0
    assert compare_and_remove(client, "k", raw(1)) == 0
    assert client.get("k") == stored


def test_a_removed_record_is_not_brought_back(client):
    assert compare_and_set(client, "k", raw(1), raw(2)) == 0
    assert not client.exists("k")


def test_only_the_own_record_is_removed(client):
    client.set("k", raw(1))
    assert compare_and_remove(client, "k", raw(1)) == 1
    assert not client.exists("k")
