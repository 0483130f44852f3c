"""Tombstones on a real server: they name nobody, keep their time, and are counted also after they are lifted."""

from redis import Redis

from models.live.keys import FORGOTTEN_KEY, tombstone
from models.live.tombstones import (
    Tombstones,
    bury,
    count_tombstones,
    is_forgotten,
    lift,
    read_tombstones,
    restore,
)


def test_a_tombstone_keeps_its_first_time_and_does_not_name_the_user(client: Redis):
    assert bury(client, "zqx-81", 100)
    assert not bury(client, "zqx-81", 200)

    tombstones = read_tombstones(client)

    assert tombstones.times == {tombstone("zqx-81"): 100}
    assert "zqx-81" in tombstones
    assert "zqx-8" not in tombstones
    assert is_forgotten(client, "zqx-81")
    assert not is_forgotten(client, "zqx-8")
    assert b"zqx-81" not in (client.dump(FORGOTTEN_KEY) or b"")


def test_tombstones_of_many_users_are_read_in_parts(client: Redis):
    for number in range(2500):
        bury(client, f"user {number}", number)

    tombstones = read_tombstones(client)

    assert len(tombstones.times) == count_tombstones(client) == 2500
    assert tombstones.named(["user 7", "nobody", "user 2499"]) == ["user 7", "user 2499"]
    assert tombstones.since(2400) == 100


def test_a_lifted_tombstone_still_counts_the_removed_user(client: Redis):
    bury(client, "a", 100)
    assert lift(client, "a", 150)
    assert not lift(client, "a", 160)

    tombstones = read_tombstones(client)

    assert "a" not in tombstones
    assert not is_forgotten(client, "a")
    assert (tombstones.since(150), tombstones.since(151)) == (1, 0)
    assert bury(client, "a", 300)


def test_a_copy_is_written_back_without_changing_newer_times(client: Redis):
    bury(client, "a", 100)
    copy = read_tombstones(client)
    client.flushall()
    bury(client, "b", 300)

    restore(client, copy)

    assert read_tombstones(client) == Tombstones({tombstone("a"): 100, tombstone("b"): 300})


def test_a_time_that_is_no_number_keeps_the_user_forgotten(client: Redis):
    client.hset(FORGOTTEN_KEY, tombstone("a"), "soon")
    client.hset(FORGOTTEN_KEY, "a field of somebody else", "1")

    assert read_tombstones(client) == Tombstones({tombstone("a"): 0})
