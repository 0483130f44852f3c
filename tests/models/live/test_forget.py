"""After forgetting, no byte of the cache names the user, and nothing of any other user is gone."""

import json
from typing import Any

import pytest
from redis import Redis, RedisCluster

from models.contract.generation import Generation
from models.live.event import Event
from models.live.forget import Removed, forget_in_cache, names_user
from models.live.keys import (
    CHANGED_KEY,
    DEAD_KEY,
    FORGOTTEN_FIELD,
    FORGOTTEN_KEY,
    GROUP,
    IN_KEY,
    TOUCHED_KEY,
    history_key,
    log_key,
    tombstone,
)
from models.live.log import append
from models.live.tombstones import is_forgotten

USER, LONGER, OTHER = "zqx-81", "zqx-81x", "y:zqx-81"
"""A user, one whose id begins with that id, and one whose keys end with it."""
GENERATIONS = [
    Generation(model, f"20261122T03150{at}Z-0a1b2c", "a" * 32, 3, 7, 8, "fp16")
    for model in ("lrea", "din")
    for at in range(3)
]


@pytest.fixture(autouse=True)
def plain_dumps(client: Redis) -> None:
    """DUMP compresses strings, which would hide an id."""
    client.config_set("rdbcompression", "no")


def everything(client: Redis) -> bytes:
    """Names and bytes of all keys."""
    return b"\n".join(part for key in client.scan_iter() for part in (key, client.dump(key) or b""))


def event(user: str, number: int) -> Event:
    return Event(f"{user}:{number}", user, "item", 1000 + number)


def fill(client: Redis | RedisCluster, user: str) -> None:
    """All that the cache may hold of a user."""
    for generation in GENERATIONS:
        client.set(generation.key(user), f"record of {user}")
        client.set(history_key(generation, user), f"history of {user}")
        fields: Any = {"m": generation.model, "p": generation.place, "u": user}
        client.xadd(CHANGED_KEY, fields)
    events = [event(user, number) for number in range(5)]
    append(client, user, events)
    client.zadd(TOUCHED_KEY, {user: 1})
    for one in events:
        client.xadd(IN_KEY, {"e": one.to_bytes()})
    client.xadd(DEAD_KEY, {"e": events[0].to_bytes(), "reason": f"no item of {user}", "at": "1"})
    client.xadd(DEAD_KEY, {"e": json.dumps({"user": user, "item": 3}), "reason": "item", "at": "1"})
    client.xadd(DEAD_KEY, {"e": '{"user": "' + user + '", ', "reason": "no JSON", "at": "1"})


def test_nothing_of_the_user_is_left_and_all_of_the_others(client: Redis):
    client.xgroup_create(IN_KEY, GROUP, "0", mkstream=True)
    for user in (LONGER, USER, OTHER):
        fill(client, user)
    client.xreadgroup(GROUP, "a worker", {IN_KEY: ">"}, count=7)
    before = {
        key: client.dump(key)
        for key in client.scan_iter()
        if key.endswith((LONGER.encode(), b":" + OTHER.encode()))
    }

    removed = forget_in_cache(client, USER)

    assert removed.is_new
    assert removed.records == removed.histories == {(g.model, g.place): 1 for g in GENERATIONS}
    assert (removed.live_events, removed.touched) == (5, True)
    # The other user's broken dead letter holds the id, too.
    assert removed.entries == {IN_KEY: 5, DEAD_KEY: 4, CHANGED_KEY: 6}
    assert removed.unclean == []
    left = everything(client)
    for name in (LONGER, OTHER):
        left = left.replace(name.encode(), b"")
    assert USER.encode() not in left
    assert before == {key: client.dump(key) for key in before}
    assert (client.xlen(IN_KEY), client.xlen(DEAD_KEY), client.xlen(CHANGED_KEY)) == (10, 5, 13)
    assert is_forgotten(client, USER)
    assert not is_forgotten(client, LONGER)


def test_services_are_told_by_a_hash(client: Redis):
    forget_in_cache(client, USER)
    entries: Any = client.xrange(CHANGED_KEY)
    ((_, fields),) = entries
    assert fields == {FORGOTTEN_FIELD.encode(): tombstone(USER).encode()}


def test_a_second_run_finds_nothing(client: Redis):
    fill(client, USER)
    time_s = forget_in_cache(client, USER) and client.hgetall(FORGOTTEN_KEY)

    again = forget_in_cache(client, USER)

    assert again.is_nothing
    assert not again.is_new
    assert client.hgetall(FORGOTTEN_KEY) == time_s


@pytest.mark.parametrize("broken", ["XRANGE", "ZREM", "UNLINK", "HLEN", "XDEL", "EVAL", "XADD"])
def test_an_interrupted_run_is_finished_by_the_next(client: Redis, broken: str):
    fill(client, USER)
    send = client.execute_command

    def fail_once(*arguments, **options):
        if arguments[0] == broken:
            raise ConnectionError("killed")
        return send(*arguments, **options)

    client.execute_command = fail_once  # type: ignore[method-assign]
    with pytest.raises(ConnectionError):
        forget_in_cache(client, USER)
    client.execute_command = send  # type: ignore[method-assign]
    assert is_forgotten(client, USER)
    client.delete("absorb:{events}:copying")  # its time is up

    assert not forget_in_cache(client, USER).is_new
    assert USER.encode() not in everything(client)


@pytest.mark.parametrize("user", ["a*", "[ab]", "a?c", "a\\b", "a^-]b", "ä ö", "*", "x:y:z"])
def test_ids_with_the_characters_of_a_pattern(client: Redis, user: str):
    others = ["abc", "a", "b", "ab", "z", "y:z", "a*b"]
    for name in (user, *others):
        client.set(GENERATIONS[0].key(name), "1")
        append(client, name, [event(name, 1)])

    removed = forget_in_cache(client, user)

    assert removed.records.total() == 1
    assert not client.exists(GENERATIONS[0].key(user), log_key(user))
    assert client.exists(*map(GENERATIONS[0].key, others)) == len(others)


def test_an_entry_that_cannot_be_read_concerns_the_user_if_the_id_stands_in_it():
    concerns = names_user(USER)
    assert concerns({b"e": b'{"user": "zqx-81", broken'})
    assert concerns({b"e": b"\xff\xfe", b"reason": b"event: got zqx-81, expected JSON"})
    assert not concerns({b"e": b'{"user": "zqx-81x", broken'})
    assert not concerns({b"e": event(LONGER, 1).to_bytes(), b"reason": b"as zqx-81"})
    assert not concerns({})
    assert names_user("42")({b"e": b'{"user": 42}'})
    assert Removed(is_new=True).is_nothing
