"""Entries leave a stream with every byte, and its readers, groups and ids go on, on a real server."""

import threading
from collections.abc import Mapping
from typing import Any

import pytest
from redis import Redis

from models.live import stream_copy
from models.live.stream_copy import BATCH, entries_of, remove_entries

KEY, GROUP = "absorb:{events}:in", "follow"


@pytest.fixture(autouse=True)
def plain_dumps(client: Redis) -> None:
    """DUMP compresses strings, which would hide an id."""
    client.config_set("rdbcompression", "no")


def fill(client: Redis, number: int, first: int = 1) -> None:
    with client.pipeline(transaction=False) as pipeline:
        for at in range(first, first + number):
            pipeline.xadd(KEY, {"u": f"user-{at}", "e": f"event of user-{at}."}, id=f"{at}-1")
        pipeline.execute()


def is_of(user: str):
    return lambda fields: fields[b"u"] == user.encode()


def users(client: Redis) -> list[bytes]:
    return [fields[b"u"] for _, fields in entries_of(client, KEY)]


def test_xdel_alone_leaves_the_bytes(client: Redis):
    """What the copy is for; where this fails, the server has learnt it."""
    fill(client, 10)
    client.xdel(KEY, "5-1")
    assert b"user-5" in (client.dump(KEY) or b"")


@pytest.mark.parametrize("number", [1, 10, BATCH, 2 * BATCH + 7])
@pytest.mark.parametrize("group", [None, GROUP])
def test_no_byte_of_a_removed_entry_is_left(client: Redis, number: int, group: str | None):
    fill(client, number)
    if group:
        client.xgroup_create(KEY, group, "0")
    before = client.xinfo_stream(KEY)

    assert remove_entries(client, KEY, is_of("user-1"), group) == (1, True)

    assert b"event of user-1." not in (client.dump(KEY) or b"")
    assert users(client) == [f"user-{at}".encode() for at in range(2, number + 1)]
    after = client.xinfo_stream(KEY)
    for name in ("last-generated-id", "entries-added", "groups"):
        assert after[name] == before[name]
    assert client.keys("*copy*") == []


def test_the_last_entry_of_all_leaves_an_empty_stream_with_its_position(client: Redis):
    fill(client, 1, first=7)

    assert remove_entries(client, KEY, is_of("user-7")) == (1, True)

    assert client.xlen(KEY) == 0
    assert client.xinfo_stream(KEY)["last-generated-id"] == b"7-1"
    assert b"user-7" not in (client.dump(KEY) or b"")


def test_a_stream_that_does_not_exist_stays_so(client: Redis):
    assert remove_entries(client, KEY, is_of("user-7"), GROUP) == (0, True)
    assert not client.exists(KEY)


def test_entries_that_were_marked_before_leave_too(client: Redis):
    fill(client, 10)
    client.xdel(KEY, "5-1")
    assert remove_entries(client, KEY, is_of("user-50")) == (0, True)
    assert b"user-5" not in (client.dump(KEY) or b"")


def read(client: Redis, consumer: str, block: int | None = None) -> list[bytes]:
    answer: Any = client.xreadgroup(GROUP, consumer, {KEY: ">"}, count=100, block=block)
    if isinstance(answer, Mapping):
        answer = list(answer.items())
    return [name for _, entries in answer for name, _ in _flat(entries)]


def _flat(entries):
    return entries[0] if entries and isinstance(entries[0], list) else entries


def test_a_group_reads_every_other_entry_and_its_pending_ones_again(client: Redis):
    fill(client, 10)
    client.xgroup_create(KEY, GROUP, "0")
    client.xreadgroup(GROUP, "a", {KEY: ">"}, count=4)
    client.xack(KEY, GROUP, "1-1", "2-1")
    client.xdel(KEY, "1-1", "2-1")

    remove_entries(client, KEY, is_of("user-4"), GROUP)

    assert read(client, "b") == [f"{at}-1".encode() for at in (3, 5, 6, 7, 8, 9, 10)]
    assert client.xpending(KEY, GROUP)["pending"] == 7


def test_a_group_without_pending_entries_reads_none_twice(client: Redis):
    fill(client, 4)
    client.xgroup_create(KEY, GROUP, "0")
    names = read(client, "a")
    client.xack(KEY, GROUP, *names)
    client.xdel(KEY, *names[:2])

    remove_entries(client, KEY, is_of("user-3"), GROUP)

    assert read(client, "a") == []
    fill(client, 1, first=11)
    assert read(client, "a") == [b"11-1"]


def test_readers_that_wait_go_on(client: Redis, server: str):
    fill(client, 3)
    client.xgroup_create(KEY, GROUP, "$")
    found: dict[str, object] = {}

    def wait_in_group():
        with Redis.from_url(server) as own:
            found["group"] = read(own, "a", block=20_000)

    def wait_with_position():
        with Redis.from_url(server) as own:
            found["position"] = own.xread({KEY: "3-1"}, block=20_000)

    threads = [threading.Thread(target=work) for work in (wait_in_group, wait_with_position)]
    for thread in threads:
        thread.start()
    while client.info("clients")["blocked_clients"] < 2:
        pass
    remove_entries(client, KEY, is_of("user-2"), GROUP)
    fill(client, 1, first=9)
    for thread in threads:
        thread.join()

    assert found["group"] == [b"9-1"]
    assert b"9-1" in str(found["position"]).encode()


def test_a_long_stream_with_a_group_is_not_copied(client: Redis, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stream_copy, "MAX_AT_ONCE", 5)
    fill(client, 10)
    client.xgroup_create(KEY, GROUP, "0")

    assert remove_entries(client, KEY, is_of("user-4"), GROUP) == (1, False)
    assert b"user-4" not in users(client)


def test_two_removals_at_once_bring_nothing_back(client: Redis, server: str):
    fill(client, 3 * BATCH)

    def remove(user: str) -> None:
        with Redis.from_url(server) as own:
            remove_entries(own, KEY, is_of(user))

    names = [f"user-{at}" for at in (5, 1500, 2500, 2999)]
    threads = [threading.Thread(target=remove, args=[name]) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    left = users(client)
    assert len(left) == 3 * BATCH - len(names)
    assert not {name.encode() for name in names} & set(left)


def test_a_copy_whose_lock_ran_out_does_not_take_the_place(client: Redis):
    fill(client, 3)

    def steal(fields):
        client.set(stream_copy.LOCK_KEY, "somebody else")
        return fields[b"u"] == b"user-2"

    assert remove_entries(client, KEY, steal) == (1, False)
    assert client.get(stream_copy.LOCK_KEY) == b"somebody else"
    assert client.xlen(KEY) == 2
