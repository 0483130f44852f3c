"""Publish against a real server: the serving generation is always complete."""

import logging
import time
from collections.abc import Iterator
from itertools import count

import numpy as np
import pytest

from builder.errors import PublishError
from builder.publish import blue_green as publish_module
from builder.publish import cache
from builder.publish.blue_green import publish
from builder.publish.cache import connect_cache
from builder.publish.generations import count_all, find_generations, flip_pointer, read_pointer
from builder.publish.records import BATCH_RECORDS
from models.contract.embedded_cache import start_server, stop_server
from models.contract.errors import CacheUnavailableError, GenerationError
from models.contract.generation import MODELS_KEY, Pointer, lock_key, pointer_key
from models.contract.record import UserRecord, encode_record
from models.contract.state_spec import TensorSpec
from tests.builder.published import (
    ARTIFACT,
    SPEC,
    assert_only,
    assert_whole,
    generation_of,
    publish_new,
    raw_record,
    records,
)


def test_a_published_generation_serves(client, caplog):
    generation = generation_of(1234)
    batches: list[int] = []

    pointer = publish(client, generation, records(1234), SPEC, progress=batches.append)

    assert pointer == Pointer(generation, None)
    assert_only(client, pointer)
    assert client.smembers(MODELS_KEY) == {b"lrea"}
    assert sum(batches) == 1234
    assert client.get(generation.key("user:7")) == raw_record("user:7")
    assert [one for one in caplog.records if one.levelname == "WARNING"] == []


def test_the_previous_generation_stays_and_the_one_before_goes(client):
    first = publish_new(client).current
    second = publish_new(client, 30).current
    assert_only(client, Pointer(second, first))

    third = publish_new(client, 25).current

    assert_only(client, Pointer(third, second))


def test_other_models_and_other_keys_are_left_alone(client):
    client.set("somebody:else", "1")
    client.set("absorb:lrea:notes", "1")
    other = publish(client, generation_of(5, "lrea-2"), records(5), SPEC)
    for _ in range(3):
        mine = publish_new(client)

    assert_only(client, other, "lrea-2")
    assert_only(client, mine)
    assert client.exists("somebody:else", "absorb:lrea:notes") == 2
    assert client.smembers(MODELS_KEY) == {b"lrea", b"lrea-2"}


def test_what_a_killed_builder_left_is_removed_before_anything_is_written(client, caplog):
    """A cache of the configured size has no room for a fourth generation."""
    caplog.set_level(logging.INFO, "builder.publish.blue_green")
    publish_new(client)
    old = publish_new(client)
    dead = generation_of(5)
    for user_id, raw in records(5):
        client.set(dead.key(user_id), raw)
    names: list[set[str]] = []

    def progress(_: int) -> None:
        names.append(find_generations(client, "lrea"))

    new = generation_of(20)
    publish(client, new, records(20), SPEC, progress=progress)

    assert old.previous
    assert names == [{old.current.name, old.previous.name, new.name}]
    assert f"model lrea: removed old or unfinished generation {dead.name}" in caplog.messages


def test_records_are_streamed_and_never_held_together(client):
    pulled = count()
    ahead: list[int] = []
    written = 0

    def source() -> Iterator[tuple[str, bytes]]:
        for record in records(2000):
            ahead.append(next(pulled) - written)
            yield record

    def progress(size: int) -> None:
        nonlocal written
        written += size

    publish(client, generation_of(2000), source(), SPEC, progress=progress)

    assert max(ahead) < BATCH_RECORDS


def test_a_batch_is_limited_in_bytes_too(client):
    spec = (TensorSpec("large", (1024, 1024)),)
    sizes: list[int] = []

    def source() -> Iterator[tuple[str, bytes]]:
        for number in range(5):
            state = {"large": np.zeros((1024, 1024), np.float32)}  # 4 MiB
            record = UserRecord(str(number), 7, np.array([], np.int32), state)
            yield str(number), encode_record(record, spec, ARTIFACT, "fp32")

    publish(client, generation_of(5), source(), spec, progress=sizes.append)

    assert sizes == [2, 2, 1]


@pytest.mark.parametrize(
    ("num_users", "source", "message"),
    [
        (0, [], "there are no records to publish"),
        (3, [], "there are no records to publish"),
        (3, list(records(2)), "got 2 records, expected 3"),
        (3, list(records(4)), "got 4 records, expected 3"),
        (3, [*records(2), *records(1)], "wrote 3 records, the cache holds 2"),
        (3, [*records(2), ("x", b"ABSR")], "user 'x': record: truncated"),
        (1, [("x", raw_record("x")[:-1] + b"\0")], "user 'x': record: checksum"),
        (1, [("x", raw_record("y"))], "user 'x': record: user is 'y', expected 'x'"),
        (1, [("x", raw_record("x", artifact_id="f" * 32))], "user 'x': record: artifact is"),
    ],
)
def test_bad_records_change_nothing(client, num_users, source, message):
    publish_new(client)
    old = publish_new(client)

    with pytest.raises(PublishError, match=message):
        publish(client, generation_of(num_users), iter(source), SPEC)

    assert_only(client, old)


def test_a_source_that_fails_changes_nothing(client):
    old = publish_new(client)

    def source() -> Iterator[tuple[str, bytes]]:
        yield from records(700)
        raise ZeroDivisionError("precompute")

    with pytest.raises(ZeroDivisionError, match="precompute"):
        publish(client, generation_of(800), source(), SPEC)

    assert_only(client, old)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda client, key: client.delete(key), "wrote 20 records, the cache holds 19"),
        (lambda client, key: client.setrange(key, 60, b"\xff"), "user 'user:3' is not what was"),
        # Another valid record of the same user: its CRC is right, and so would be the CRC of the whole.
        (lambda client, key: client.set(key, raw_record("user:3", 9)), "user 'user:3' is not what"),
    ],
    ids=["lost", "damaged", "replaced"],
)
def test_a_write_that_went_wrong_is_noticed_before_the_flip(client, damage, message):
    old = publish_new(client)
    generation = generation_of(20)

    def progress(_: int) -> None:
        damage(client, generation.key("user:3"))

    with pytest.raises(PublishError, match=message):
        publish(client, generation, records(20), SPEC, progress=progress)

    assert_only(client, old)


def test_a_full_cache_keeps_what_serves(client):
    old = publish_new(client, 500)
    used = client.info("memory")["used_memory"]
    client.config_set("maxmemory", used + 2_000_000)

    with pytest.raises(PublishError, match=r"cache is full after \d+ of 50000 records; raise its"):
        publish(client, generation_of(50_000), records(50_000), SPEC)

    assert_only(client, old)
    new = publish_new(client, 500)  # and there is room again
    assert_only(client, new)


def test_a_lost_lock_stops_before_the_flip(client):
    old = publish_new(client)

    def progress(_: int) -> None:
        client.set(lock_key("lrea"), "another builder abc", px=60_000)

    with pytest.raises(PublishError, match="lost the lock to another builder; nothing is flipped"):
        publish(client, generation_of(20), records(20), SPEC, progress=progress)

    assert client.getdel(lock_key("lrea")) == b"another builder abc"
    assert_only(client, old)


def test_a_lock_lost_early_stops_the_writing(client, monkeypatch):
    old = publish_new(client)
    monkeypatch.setattr("builder.publish.lock.RENEW_EVERY_S", 0.01)
    batches: list[int] = []

    def progress(size: int) -> None:
        batches.append(size)
        client.delete(lock_key("lrea"))
        time.sleep(0.1)  # some renewals

    with pytest.raises(PublishError, match="lost the lock; stopped before flipping"):
        publish(client, generation_of(5000), records(5000), SPEC, progress=progress)

    assert len(batches) < 10
    assert_only(client, old)


def test_a_builder_that_was_stopped_does_not_sweep_what_another_is_writing(client, monkeypatch):
    """The builder is stopped for longer than its lock lives, while it searches for dead generations."""
    old = publish_new(client)
    living = generation_of(9)

    def find_late(*arguments) -> set[str]:
        client.set(lock_key("lrea"), "another builder abc", px=60_000)
        client.set(living.key("user:1"), b"of the other builder")
        return find_generations(*arguments)

    monkeypatch.setattr(publish_module, "find_generations", find_late)
    with pytest.raises(PublishError, match="lost the lock before writing"):
        publish_new(client)

    assert client.exists(living.key("user:1"))
    assert read_pointer(client, "lrea")[0] == old
    assert_whole(client, old.current)


def test_a_lock_lost_after_the_flip_leaves_the_sweep_to_the_next(client, monkeypatch, caplog):
    publish_new(client)
    old = publish_new(client)

    def flip_and_lose(*arguments) -> None:
        flip_pointer(*arguments)
        client.delete(lock_key("lrea"))

    with monkeypatch.context() as patched:
        patched.setattr(publish_module, "flip_pointer", flip_and_lose)
        new = publish_new(client)

    assert new.previous == old.current
    assert read_pointer(client, "lrea")[0] == new
    assert "lost the lock after the flip" in caplog.text
    assert len(find_generations(client, "lrea")) == 3
    assert_only(client, publish_new(client))


def test_a_pointer_that_cannot_be_read_stops_the_publish(client):
    generation = publish_new(client).current
    client.set(pointer_key("lrea"), b"{}")

    with pytest.raises(GenerationError, match=r"absorb:\{control\}:pointer:lrea"):
        publish_new(client)

    assert client.get(pointer_key("lrea")) == b"{}"
    assert_whole(client, generation)


def test_a_restart_of_the_cache_in_the_middle_goes_unnoticed(client, server):
    restarts = iter([True])

    def progress(_: int) -> None:
        if next(restarts, False):
            stop_server(server)
            start_server(server)

    pointer = publish(client, generation_of(1500), records(1500), SPEC, progress=progress)

    assert_only(client, pointer)


def test_a_cache_that_is_gone_is_named_and_the_next_publish_cleans_up(
    server, client, monkeypatch, caplog
):
    old = publish_new(client)
    generation = generation_of(1500)
    monkeypatch.setattr(cache, "NUM_RETRIES", 0)

    def progress(_: int) -> None:
        stop_server(server)

    with (
        connect_cache(f"embedded:{server}") as hasty,
        pytest.raises(CacheUnavailableError, match=f"unix://{server}"),
    ):
        publish(hasty, generation, records(1500), SPEC, progress=progress)
    start_server(server)
    removed_later = f"{generation.name} is not removed now; the next publish removes it"
    assert f"{removed_later}: cache unix://{server}" in caplog.text

    assert read_pointer(client, "lrea")[0] == old
    assert_whole(client, old.current)
    assert len(count_all(client)["lrea"]) == 2  # what was written of the third is still there

    client.delete(lock_key("lrea"))  # stands in for its expiry
    assert_only(client, publish_new(client))
