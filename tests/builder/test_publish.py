"""Publish against a real server: what serves is always whole, whatever happens to the builder."""

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from builder import cache
from builder import publish as publish_module
from builder.cache import CacheClient, connect_cache
from builder.generations import (
    count_all,
    find_generations,
    flip_pointer,
    new_generation,
    read_pointer,
    rollback,
)
from builder.lock import hold_lock
from builder.publish import SAMPLE_SIZE, publish
from builder.status import status
from models.cache_server import start_server, stop_server
from models.errors import (
    CacheUnavailableError,
    GenerationError,
    LockHeldError,
    PublishError,
)
from models.record import (
    MODELS_KEY,
    Generation,
    Pointer,
    TensorSpec,
    UserRecord,
    decode_record,
    encode_record,
    lock_key,
    pointer_key,
)

ROOT = Path(__file__).parents[2]
SPEC = (TensorSpec("rows", (4, 8)), TensorSpec("counts", (4,)))
ARTIFACT = "0123456789abcdef" * 2
NOW = datetime(2026, 11, 22, 3, 15, tzinfo=UTC)


@pytest.fixture(scope="module")
def server() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="ab", dir="/tmp"))  # unix socket paths must be short
    yield folder
    stop_server(folder)
    shutil.rmtree(folder)


@pytest.fixture
def client(server: Path) -> Iterator[CacheClient]:
    with connect_cache(f"embedded:{server}") as client:
        client.flushall()
        yield client
        client.config_set("maxmemory", 0)


def generation_of(num_users: int, model: str = "lrea") -> Generation:
    return new_generation(model, ARTIFACT, num_users, 7, "fp16", NOW)


def raw_record(user_id: str, value: float = 0.0, artifact_id: str = ARTIFACT) -> bytes:
    state = {"rows": np.full((4, 8), value, np.float32), "counts": np.zeros(4, np.float32)}
    record = UserRecord(user_id, 7, np.array([3], np.int32), state)
    return encode_record(record, SPEC, artifact_id, "fp16")


def records(num_users: int, value: float = 0.0) -> Iterator[tuple[str, bytes]]:
    for number in range(num_users):
        yield f"user:{number}", raw_record(f"user:{number}", value)


def publish_new(client: CacheClient, num_users: int = 20, value: float = 0.0) -> Pointer:
    return publish(client, generation_of(num_users), records(num_users, value), SPEC)


def assert_whole(client: CacheClient, generation: Generation) -> None:
    """Every record is there and can be read by the artifact."""
    keys = list(client.scan_iter(generation.key_pattern(), 1000))
    assert len(keys) == generation.num_users
    for key, raw in zip(keys, client.mget(keys), strict=True):
        assert isinstance(raw, bytes)
        decode_record(raw, SPEC, generation.artifact_id, key.decode().split(":", 3)[3])


def assert_only(client: CacheClient, pointer: Pointer | None, model: str = "lrea") -> None:
    """The cache holds the pointer's generations, whole, nothing else of the model, and no lock."""
    kept = [g for g in (pointer.current, pointer.previous) if g] if pointer else []
    assert read_pointer(client, model)[0] == pointer
    assert count_all(client).get(model, {}) == {g.name: g.num_users for g in kept}
    for generation in kept:
        assert_whole(client, generation)
    assert not client.exists(lock_key(model))


def test_a_published_generation_serves(client):
    generation = generation_of(1234)
    batches: list[int] = []

    pointer = publish(client, generation, records(1234), SPEC, progress=batches.append)

    assert pointer == Pointer(generation, None)
    assert_only(client, pointer)
    assert client.smembers(MODELS_KEY) == {b"lrea"}
    assert sum(batches) == 1234
    assert client.get(generation.key("user:7")) == raw_record("user:7")


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

    assert max(ahead) < publish_module.BATCH_RECORDS


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


def test_the_sample_is_uniform_and_the_same_for_the_same_seed():
    def drawn(seed: str) -> list[int]:
        sample = publish_module._Sample(seed)
        for number in range(1000):
            sample.offer(str(number), b"")
        return sorted(int(user_id) for user_id, _ in sample.hashes)

    assert drawn("a") == drawn("a") != drawn("b")
    assert len(set(drawn("a"))) == SAMPLE_SIZE
    seen = np.bincount(np.concatenate([drawn(str(seed)) for seed in range(300)]), minlength=1000)
    tenths = seen.reshape(10, 100).sum(1)  # 3,000 expected in each, standard deviation 49
    assert (np.abs(tenths - 3000) < 300).all()


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
    monkeypatch.setattr("builder.lock.RENEW_EVERY_S", 0.01)
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
    """Stopped for longer than the lock lives, at the worst moment: while it looks for what is dead."""
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


def test_a_rollback_during_a_publish_wins(client):
    first = publish_new(client).current
    second = publish_new(client).current

    def progress(_: int) -> None:
        rollback(client, "lrea")

    with pytest.raises(PublishError, match="the pointer was changed meanwhile"):
        publish(client, generation_of(20), records(20), SPEC, progress=progress)

    assert_only(client, Pointer(first, second))


def test_a_pointer_that_cannot_be_read_stops_the_publish(client):
    generation = publish_new(client).current
    client.set(pointer_key("lrea"), b"{}")

    with pytest.raises(GenerationError, match=r"absorb:\{control\}:pointer:lrea"):
        publish_new(client)

    assert client.get(pointer_key("lrea")) == b"{}"
    assert_whole(client, generation)


def test_a_flip_that_is_sent_again_is_harmless(client):
    pointer = publish_new(client)

    flip_pointer(client, b"", pointer)  # as a client does whose connection broke before the answer

    assert_only(client, pointer)


def test_a_restart_of_the_cache_in_the_middle_goes_unnoticed(client, server):
    restarts = iter([True])

    def progress(_: int) -> None:
        if next(restarts, False):
            stop_server(server)
            start_server(server)

    pointer = publish(client, generation_of(1500), records(1500), SPEC, progress=progress)

    assert_only(client, pointer)


def test_a_cache_that_is_gone_is_named_and_the_next_publish_cleans_up(server, client, monkeypatch):
    old = publish_new(client)
    monkeypatch.setattr(cache, "NUM_RETRIES", 0)

    def progress(_: int) -> None:
        stop_server(server)

    with (
        connect_cache(f"embedded:{server}") as hasty,
        pytest.raises(CacheUnavailableError, match=f"unix://{server}"),
    ):
        publish(hasty, generation_of(1500), records(1500), SPEC, progress=progress)
    start_server(server)

    assert read_pointer(client, "lrea")[0] == old
    assert_whole(client, old.current)
    assert len(count_all(client)["lrea"]) == 2  # what was written of the third is still there

    client.delete(lock_key("lrea"))  # stands in for its expiry
    assert_only(client, publish_new(client))


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
    assert lrea.server_memory_bytes > 30 * len(raw_record("user:1"))


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
    with pytest.raises(PublishError, match="expected a name that matches"):
        new_generation(model, ARTIFACT, 3, 7, "int8", NOW)


PUBLISHER = """
import importlib.util, os, signal, sys
from builder import publish as module
from builder.cache import connect_cache

spec = importlib.util.spec_from_file_location("shared", sys.argv[1])
shared = importlib.util.module_from_spec(spec)
spec.loader.exec_module(shared)
client = connect_cache(sys.argv[2])
point, num_users = sys.argv[3], int(sys.argv[4])
batches = []

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def progress(size):
    batches.append(size)
    if point == f"batch {len(batches)}":
        die()
    if point == "wait":
        print("writing", flush=True)
        sys.stdin.readline()

def die_after(function):
    def both(*arguments):
        function(*arguments)
        die()
    return both

if point == "before verify":
    module._verify = die
if point == "before flip":
    module.flip_pointer = die
if point == "after flip":
    module.flip_pointer = die_after(module.flip_pointer)
print("ready", flush=True)
module.publish(
    client, shared.generation_of(num_users), shared.records(num_users, 5), shared.SPEC,
    progress=progress,
)
print("published", flush=True)
"""


def start_publisher(server: Path, point: str, num_users: int) -> subprocess.Popen[str]:
    """Another builder, in a process of its own, that has connected to the cache."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", PUBLISHER, __file__),
            *(f"embedded:{server}", point, str(num_users)),
        ],
        cwd=ROOT,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


def assert_survives(client: CacheClient, old: Pointer) -> None:
    """What serves is whole, and so is what served before the kill."""
    now, _ = read_pointer(client, "lrea")
    assert now
    assert now == old or now.previous == old.current
    assert_whole(client, now.current)
    assert_whole(client, old.current)


@pytest.mark.parametrize(
    ("point", "is_flipped"),
    [
        ("batch 1", False), ("batch 3", False), ("before verify", False), ("before flip", False),
        ("after flip", True),
    ],
)  # fmt: skip
def test_a_builder_killed_at_any_step_leaves_a_whole_generation(client, server, point, is_flipped):
    publish_new(client)
    old = publish_new(client)

    with start_publisher(server, point, 1500) as builder:
        assert builder.wait() == -signal.SIGKILL

    assert_survives(client, old)
    assert (read_pointer(client, "lrea")[0] != old) == is_flipped
    assert len(count_all(client)["lrea"]) == 3  # the killed builder left a generation to sweep
    client.pexpire(lock_key("lrea"), 300)  # its lock expires by itself, only sooner
    assert_only(client, publish_new(client))


def test_a_builder_killed_at_random_moments_leaves_a_whole_generation(client, server):
    moments = random.Random(7)
    publish_new(client)
    for _ in range(8):
        old = publish_new(client, 300)
        with start_publisher(server, "never", 4000) as builder:
            time.sleep(moments.uniform(0, 0.5))
            builder.kill()
        assert_survives(client, old)
        client.delete(lock_key("lrea"))  # stands in for its expiry

    assert_only(client, publish_new(client))


def test_of_two_builders_at_once_the_second_is_told_who_the_first_is(client, server):
    with start_publisher(server, "wait", 20) as builder:
        assert builder.stdin
        assert builder.stdout
        assert builder.stdout.readline() == "writing\n"
        with pytest.raises(LockHeldError, match=f"{socket.gethostname()} pid {builder.pid} since"):
            publish_new(client)
        builder.stdin.write("go on\n")
        builder.stdin.flush()
        assert builder.stdout.readline() == "published\n"
        assert builder.wait() == 0

    pointer, _ = read_pointer(client, "lrea")
    assert pointer
    assert pointer.current.num_users == 20
    assert client.get(pointer.current.key("user:1")) == raw_record("user:1", 5)
    assert_only(client, pointer)
