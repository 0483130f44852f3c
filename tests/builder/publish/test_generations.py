"""Names, rollback and status."""

import os
from datetime import timedelta, timezone

import pytest

from builder.errors import PublishError
from builder.publish.blue_green import publish
from builder.publish.generations import (
    flip_pointer,
    new_generation,
    read_pointer,
    rollback,
)
from builder.publish.lock import hold_lock
from builder.publish.status import status
from models.contract.generation import Pointer
from tests.builder.published import (
    ARTIFACT,
    NOW,
    SPEC,
    assert_only,
    generation_of,
    publish_new,
    raw_record,
    records,
)


def test_rolling_back_twice_returns(client):
    publish_new(client)
    published = publish_new(client, 30)
    assert published.previous

    back = rollback(client, "lrea")

    assert back == Pointer(published.previous, published.current)
    assert_only(client, back)
    assert rollback(client, "lrea") == published
    assert_only(client, published)


def test_a_publish_after_a_rollback_keeps_what_serves(client):
    first = publish_new(client).current
    publish_new(client)
    rollback(client, "lrea")

    third = publish_new(client).current

    assert_only(client, Pointer(third, first))


def test_there_may_be_nothing_to_roll_back_to(client):
    with pytest.raises(PublishError, match="model 'lrea': was never published"):
        rollback(client, "lrea")
    published = publish_new(client)
    with pytest.raises(PublishError, match="has no previous generation"):
        rollback(client, "lrea")
    assert_only(client, published)


def test_a_generation_that_is_not_whole_is_not_rolled_back_to(client):
    publish_new(client)
    published = publish_new(client)
    assert published.previous
    client.delete(published.previous.key("user:0"))

    with pytest.raises(PublishError, match=r"of the 20 records of .* only 19 are left"):
        rollback(client, "lrea")

    assert read_pointer(client, "lrea")[0] == published


def test_status_of_an_empty_cache_is_empty(client):
    assert status(client) == []


def test_status_tells_what_is_there(client):
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


def test_a_flip_that_is_sent_again_is_harmless(client):
    pointer = publish_new(client)

    flip_pointer(client, b"", pointer)  # as a client does whose connection broke before the answer

    assert_only(client, pointer)


@pytest.mark.parametrize("hours", [0, -5])
def test_a_generation_is_named_after_its_moment_in_utc(hours):
    now = NOW.astimezone(timezone(timedelta(hours=hours)))
    one, other = (new_generation("lrea", ARTIFACT, 3, 7, "int8", now) for _ in range(2))

    assert one.name.startswith("20261122T031500Z-")
    assert len(bytes.fromhex(one.name[17:])) == 3
    assert one.name != other.name
    assert (one.num_users, one.as_of_s, one.dtype) == (3, 7, "int8")
    assert one.created_s == int(NOW.timestamp())


@pytest.mark.parametrize("model", ["", "a:b", "LREA", "*", "{control}", "-x", "x" * 65])
def test_a_model_name_that_is_no_part_of_a_key_is_refused(model):
    with pytest.raises(PublishError, match="expected 1 to 64 of a-z"):
        new_generation(model, ARTIFACT, 3, 7, "int8", NOW)


def test_a_rollback_during_a_publish_wins(client):
    first = publish_new(client).current
    second = publish_new(client).current

    def progress(_: int) -> None:
        rollback(client, "lrea")

    with pytest.raises(PublishError, match="the pointer was changed meanwhile"):
        publish(client, generation_of(20), records(20), SPEC, progress=progress)

    assert_only(client, Pointer(first, second))
