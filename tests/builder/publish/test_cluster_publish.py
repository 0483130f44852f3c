"""A publish to a real cluster of three nodes: slots that move, nodes and processes that are killed, and resumed."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from redis.crc import key_slot

from builder.errors import PublishError
from builder.publish import cache, straight
from builder.publish import records as records_module
from builder.publish.blue_green import publish
from builder.publish.cache import CacheClient, connect_cache
from builder.publish.generations import count_all, read_pointer
from models.contract.errors import CacheUnavailableError
from models.contract.generation import Generation, Pointer, lock_key
from models.live.history import BaseHistory, encode_history
from tests.builder.published import ARTIFACT, SPEC, generation_of, raw_record, records
from tests.cluster import Cluster, Node, running_cluster, wait_until

ROOT = Path(__file__).parents[3]
NUM_USERS = 120
BATCH = 20
OURS = "ABSORB_TEST_CLUSTER"

PUBLISHER = """
import os, signal, sys
from builder.publish import records as module
from builder.publish.blue_green import publish
from builder.publish.cache import connect_cache
from tests.builder import published

module.BATCH_RECORDS = 50
module.num_writers = lambda users: int(sys.argv[2])
batches = []

def progress(size):
    batches.append(size)
    if len(batches) == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)

client, number = connect_cache(sys.argv[1]), int(sys.argv[4])
publish(
    client, published.generation_of(number), published.records(number, 5), published.SPEC,
    progress=progress,
)
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running_cluster() as cluster:
        yield cluster


@pytest.fixture
def client(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[CacheClient]:
    monkeypatch.setattr(records_module, "BATCH_RECORDS", BATCH)
    monkeypatch.setenv(OURS, cluster.url)  # writers inherit it
    cluster.empty()
    with connect_cache(cluster.url) as client:
        yield client


def histories(number: int) -> Iterator[tuple[str, bytes]]:
    rows, times = np.arange(3, dtype=np.int32), np.arange(3)
    for user in (f"user:{n}" for n in range(number)):
        base = BaseHistory(user, ARTIFACT, 7, np.zeros(1, np.int32), rows, times)
        yield user, encode_history(base)


def publish_all(client: CacheClient, progress: Callable[[int], None] | None = None) -> Pointer:
    return publish(
        client,
        generation_of(NUM_USERS),
        records(NUM_USERS),
        SPEC,
        histories=histories(NUM_USERS),
        progress=progress,
    )


def assert_holds(client: CacheClient, generation: Generation, value: float = 0.0) -> None:
    for number in range(generation.num_users):
        user = f"user:{number}"
        assert client.get(generation.key(user)) == raw_record(user, value), user


def assert_only(client: CacheClient, pointer: Pointer) -> None:
    kept = [one for one in (pointer.current, pointer.previous) if one]
    assert count_all(client)["lrea"] == {one.name: one.num_users for one in kept}
    assert read_pointer(client, "lrea")[0] == pointer


def once(action: Callable[[], None]) -> Callable[[int], None]:
    done: list[int] = []

    def progress(size: int) -> None:
        if not done:
            action()
        done.append(size)

    return progress


def late_slots(generation: Generation, node: Node) -> list[int]:
    """Slots of a node that hold records of the last batch, and nothing that is written before."""
    users = [f"user:{number}" for number in range(NUM_USERS)]
    slots = [key_slot(generation.key(user).encode()) for user in users]
    early = set(slots[:-BATCH])
    return [slot for slot in slots[-BATCH:] if slot in node.slots and slot not in early]


@pytest.fixture
def moving(cluster: Cluster) -> Iterator[Callable[..., None]]:
    """Moves slots from the first node to the second; they come back after the test."""
    one, other, _ = cluster.nodes
    names = {node: node.ask("CLUSTER MYID").decode() for node in cluster.nodes}
    moved: list[int] = []

    def give(slots: list[int], receiver: Node) -> None:
        for slot in slots:
            for node in (receiver, *(each for each in cluster.nodes if each is not receiver)):
                node.ask("CLUSTER", "SETSLOT", slot, "NODE", names[receiver])

    def begin(slots: list[int]) -> None:
        for slot in slots:
            other.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", names[one])
            one.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", names[other])

    def move(slots: list[int], *, only_begin: bool = False) -> None:
        moved.extend(slots)
        begin(slots)
        if not only_begin:
            give(slots, other)

    yield move
    cluster.empty()
    give(moved, one)
    cluster.wait()


@pytest.mark.parametrize("only_begin", [False, True], ids=["MOVED", "ASK"])
def test_slots_that_move_while_a_publish_writes_are_followed(
    client, cluster, moving, monkeypatch, only_begin: bool
):
    generation = generation_of(NUM_USERS)
    slots = late_slots(generation, cluster.nodes[0])
    assert slots
    redirects: list[bytes] = []
    read = straight._redirected

    def watched(one, line, source):
        other = read(one, line, source)
        if other is not None:
            redirects.append(line.split()[0])
        return other

    monkeypatch.setattr(straight, "_redirected", watched)
    # What redirects is the question here; the sweep and the counts ask each node for its own keys.
    publish(
        client,
        generation,
        records(NUM_USERS),
        SPEC,
        progress=once(lambda: moving(slots, only_begin=only_begin)),
    )
    assert set(redirects) == {b"-ASK" if only_begin else b"-MOVED"}
    held = {
        user: cluster.nodes[1].ask("GET", generation.key(user))
        for user in (f"user:{number}" for number in range(NUM_USERS))
        if not only_begin and key_slot(generation.key(user).encode()) in slots
    }
    assert all(raw == raw_record(user) for user, raw in held.items())
    assert bool(held) != only_begin
    pointer, _ = read_pointer(client, "lrea")
    assert pointer
    assert pointer.current == generation


def test_a_node_that_is_killed_and_comes_back_is_waited_for(client, cluster):
    old = publish_all(client)
    node = cluster.nodes[2]

    def kill() -> None:
        node.kill()
        threading.Timer(0.8, cluster.restart, [node]).start()

    new = publish_all(client, once(kill))

    cluster.wait()
    assert new.previous == old.current
    assert_holds(client, new.current)
    assert_only(client, new)


def test_a_node_that_stays_away_is_named_and_the_old_generation_serves(
    client, cluster, monkeypatch
):
    old = publish_all(client)
    control = cluster.node_of(lock_key("lrea"))
    node = next(one for one in cluster.nodes if one is not control)
    monkeypatch.setattr(cache, "NUM_RETRIES", 0)
    with pytest.raises(CacheUnavailableError, match=node.name):
        publish_all(client, once(node.kill))
    cluster.restart(node)

    assert read_pointer(client, "lrea")[0] == old
    assert_holds(client, old.current)
    client.delete(lock_key("lrea"))
    assert_only(client, publish_all(client))


@pytest.mark.parametrize("writers", [0, 2])
def test_a_publish_killed_in_the_middle_is_resumed(client, cluster, writers: int):
    old = publish_all(client)
    command = [sys.executable, "-c", PUBLISHER, cluster.url, str(writers), "4", "2000"]

    builder = subprocess.run(command, cwd=ROOT, check=False)

    assert builder.returncode == -signal.SIGKILL
    assert read_pointer(client, "lrea")[0] == old
    assert_holds(client, old.current)
    wait_until(lambda: not writers_alive())  # a writer ends with the batch that it sends
    assert len(count_all(client)["lrea"]) == 2
    client.delete(lock_key("lrea"))  # stands in for its expiry
    resumed = [*command[:-2], "0", "2000"]
    subprocess.run(resumed, cwd=ROOT, check=True)
    new, _ = read_pointer(client, "lrea")
    assert new
    assert new.previous == old.current
    assert_holds(client, new.current, 5)
    assert_only(client, new)
    assert not writers_alive()


def writers_alive() -> list[int]:
    """Writers of publishes that this test started, orphans, too."""
    mark = f"{OURS}={os.environ[OURS]}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            is_writer = b"builder.publish.writers" in (folder / "cmdline").read_bytes()
            if is_writer and mark in (folder / "environ").read_bytes():
                found.append(int(folder.name))
    return found


@pytest.mark.parametrize("point", ["batch", "first"])
def test_a_writer_that_dies_stops_the_publish(client, monkeypatch, point: str):
    old = publish_all(client)
    monkeypatch.setattr(records_module, "num_writers", lambda users: 2)

    def kill() -> None:
        os.kill(writers_alive()[0], signal.SIGKILL)
        time.sleep(0.1)

    if point == "first":
        monkeypatch.setattr("builder.publish.writers.__name__", "builder.publish.no_such_module")

    with pytest.raises(PublishError, match="a process that writes records died"):
        publish_all(client, once(kill))

    assert read_pointer(client, "lrea")[0] == old
    assert_only(client, old)
    assert not writers_alive()


def test_several_writers_write_what_one_writes(client, monkeypatch):
    one = publish_all(client).current
    monkeypatch.setattr(records_module, "num_writers", lambda users: 3)
    sizes: list[int] = []

    several = publish_all(client, sizes.append).current

    assert sum(sizes) == NUM_USERS
    assert_holds(client, several)
    for number in range(NUM_USERS):
        keys = [
            f"absorb.history:lrea:{place}:user:{number}" for place in (one.place, several.place)
        ]
        assert len({client.get(key) for key in keys}) == 1
    assert not writers_alive()


def test_an_error_of_a_writer_is_the_error_of_the_publish(client, monkeypatch):
    old = publish_all(client)
    monkeypatch.setattr(records_module, "num_writers", lambda users: 2)
    bad = [*records(NUM_USERS - 1), ("x", raw_record("y"))]

    with pytest.raises(PublishError, match="user 'x': record: user is 'y', expected 'x'"):
        publish(client, generation_of(NUM_USERS), iter(bad), SPEC)

    assert_only(client, old)
