"""Generations: their names, the flip of the pointer, and rollback."""

from datetime import timedelta, timezone

import pytest

from builder.errors import PublishError
from builder.publish.blue_green import publish
from builder.publish.generations import (
    count_all,
    flip_pointer,
    new_generation,
    read_pointer,
    rollback,
)
from models.contract.errors import GenerationError
from models.contract.generation import Pointer, pointer_key
from tests.builder.published import (
    ARTIFACT,
    NOW,
    SPEC,
    assert_only,
    generation_of,
    publish_new,
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
    with pytest.raises(PublishError, match="model 'lrea': got no published generation"):
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


@pytest.mark.parametrize(
    ("users", "as_of_s", "artifact_id", "problem"),
    [
        (3, 1_764_000_000_000, ARTIFACT, "as_of_s: got 1764000000000, expected a whole number"),
        (-1, 7, ARTIFACT, "num_users: got -1"),
        (3, 7, "../x", "artifact_id: got '../x', expected 32 of 0-9 a-f"),
    ],
)
def test_a_generation_that_services_would_refuse_is_never_named(
    users: int, as_of_s: int, artifact_id: str, problem: str
):
    with pytest.raises(PublishError, match=problem):
        new_generation("lrea", artifact_id, users, as_of_s, "int8", NOW)


@pytest.mark.parametrize("raw", [b"[" * 100_000, b" " * 10_000_000, b"{"])
def test_over_a_pointer_that_cannot_be_read_nothing_is_published(client, raw: bytes):
    client.set(pointer_key("lrea"), raw)
    with pytest.raises(GenerationError, match=r"generation pointer .*:lrea"):
        publish_new(client)
    assert client.get(pointer_key("lrea")) == raw
    client.delete(pointer_key("lrea"))
    assert_only(client, publish_new(client))


def test_a_rollback_during_a_publish_wins(client):
    first = publish_new(client).current
    second = publish_new(client).current

    def progress(_: int) -> None:
        rollback(client, "lrea")

    with pytest.raises(PublishError, match="the pointer changed since it was read"):
        publish(client, generation_of(20), records(20), SPEC, progress=progress)

    assert_only(client, Pointer(first, second))


def test_a_foreign_key_that_is_not_utf8_is_counted_under_a_readable_name(client):
    client.set(b"absorb:\xff:20261122T031500Z-0a1b2c:user", "1")
    current = publish_new(client).current

    assert count_all(client) == {
        "lrea": {current.name: 20},
        "\N{REPLACEMENT CHARACTER}": {"20261122T031500Z-0a1b2c": 1},
    }
