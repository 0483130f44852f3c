"""Logs of live events on a real server: idempotent, counted, and readable by anybody who knows the key."""

from typing import Any

import pytest
from redis import Redis

from models.live.event import Event, EventError
from models.live.keys import log_key, tombstone
from models.live.log import UserLog, append, drop, read_log


def event(number: int) -> Event:
    return Event(f"e{number}", "u", f"item {number}", 1000 + number)


def stored(client: Redis) -> UserLog:
    fields: Any = client.hgetall(log_key("u"))
    return read_log(fields)


def test_a_missing_log_is_empty(client: Redis):
    assert stored(client) == UserLog(0)


def test_events_that_come_again_change_nothing(client: Redis):
    assert append(client, "u", [event(1), event(2)]) == [2, 2]
    before = stored(client)
    assert append(client, "u", [event(2), event(1)]) == [2, 0]
    assert append(client, "u", [Event("e1", "u", "another item", 5)]) == [2, 0]
    assert stored(client) == before
    assert append(client, "u", [event(2), event(3)]) == [3, 1]
    kept = sorted(stored(client).events, key=lambda kept: kept.event_id)
    assert kept == [event(1), event(2), event(3)]


def test_the_version_never_falls(client: Redis):
    append(client, "u", [event(1), event(2)])
    drop(client, "u", ["e1", "e2"])
    assert stored(client) == UserLog(2)
    assert append(client, "u", [event(3)]) == [3, 1]


def test_a_pipeline_appends_for_many_users(client: Redis):
    with client.pipeline(transaction=False) as pipeline:
        for user in ("a", "b"):
            append(pipeline, user, [Event("1", user, "i", 1)])
        assert pipeline.execute() == [[1, 1], [1, 1]]


@pytest.mark.parametrize(("name", "value"), [("", b"many"), ("e1", b"no event")])
def test_a_damaged_log_is_an_error(client: Redis, name: str, value: bytes):
    append(client, "u", [event(1)])
    client.hset(log_key("u"), name, value)
    with pytest.raises(EventError):
        stored(client)


def test_a_tombstone_does_not_tell_the_user():
    assert "u" * 20 not in tombstone("u" * 20)
    assert tombstone("a") != tombstone("b")
