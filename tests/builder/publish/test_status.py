"""Status: what the cache holds, also of a first publish that has not finished."""

import os

import pytest

from builder.publish.lock import hold_lock
from builder.publish.status import status
from models.contract.generation import pointer_key
from tests.builder.published import generation_of, publish_new, raw_record


def test_status_of_an_empty_cache_is_empty(client):
    assert status(client) == []


def test_status_shows_generations_and_locks(client):
    publish_new(client)
    pointer = publish_new(client, 30)
    left = generation_of(9)
    client.set(left.key("user:1"), b"left by a killed builder")
    first = generation_of(9, "din")
    client.set(first.key("user:1"), b"of a first publish")

    with hold_lock(client, "lrea"):
        din, lrea = status(client)

    assert (din.model, din.pointer, din.record_bytes, din.lock_holder) == ("din", None, None, None)
    assert din.unfinished == [first.name]
    assert (lrea.model, lrea.pointer) == ("lrea", pointer)
    assert pointer.previous
    assert lrea.records == {pointer.current.name: 30, pointer.previous.name: 20, left.name: 1}
    assert lrea.unfinished == [left.name]
    assert lrea.record_bytes in {len(raw_record("user:1")), len(raw_record("user:11"))}
    assert lrea.lock_holder
    assert f"pid {os.getpid()}" in lrea.lock_holder


def test_a_generation_whose_records_are_gone_has_no_size(client):
    pointer = publish_new(client)
    client.delete(*client.scan_iter(pointer.current.key_pattern()))
    (row,) = status(client)
    assert (row.pointer, row.record_bytes, row.records) == (pointer, None, {})


@pytest.mark.parametrize("raw", [b"{", b"[" * 100_000])
def test_a_pointer_that_cannot_be_read_is_a_problem_of_its_model_only(client, raw: bytes):
    pointer = publish_new(client)
    client.sadd("absorb:{control}:models", "din", b"\xff")
    client.set(pointer_key("din"), raw)
    client.set(b"absorb:\xff:20261122T031500Z-0a1b2c:user", b"a key of no model")

    rows = {row.model: row for row in status(client)}

    assert rows["lrea"].pointer == pointer
    assert rows["din"].pointer is None
    assert str(rows["din"].problem).startswith("generation pointer absorb:{control}:pointer:din: ")
