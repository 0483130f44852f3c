"""Killed builders and concurrent builders: real processes, a real server."""

import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from builder.errors import LockHeldError
from builder.publish.cache import CacheClient
from builder.publish.generations import count_all, read_pointer
from models.contract.generation import Pointer, lock_key
from tests.builder.published import assert_only, assert_whole, publish_new, raw_record

ROOT = Path(__file__).parents[3]

PUBLISHER = """
import os, signal, sys
from builder.publish import blue_green as module
from builder.publish.cache import connect_cache
from tests.builder import published

client = connect_cache(sys.argv[1])
point, num_users = sys.argv[2], int(sys.argv[3])
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
    module.verify = die
if point == "before flip":
    module.flip_pointer = die
if point == "after flip":
    module.flip_pointer = die_after(module.flip_pointer)
print("ready", flush=True)
module.publish(
    client, published.generation_of(num_users), published.records(num_users, 5), published.SPEC,
    progress=progress,
)
print("published", flush=True)
"""


def start_publisher(server: Path, point: str, num_users: int) -> subprocess.Popen[str]:
    """Another builder, in a process of its own, that has connected to the cache."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", PUBLISHER),
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
    """The serving generation is complete, and so is the one that served before the kill."""
    now, _ = read_pointer(client, "lrea")
    assert now
    assert now == old or now.previous == old.current
    assert_whole(client, now.current)
    assert_whole(client, old.current)


@pytest.mark.parametrize(
    ("point", "is_flipped"),
    [
        ("batch 1", False),
        ("batch 3", False),
        ("before verify", False),
        ("before flip", False),
        ("after flip", True),
    ],
)
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
    for _ in range(5):
        old = publish_new(client, 300)
        with start_publisher(server, "never", 4000) as builder:
            time.sleep(moments.uniform(0, 0.5))
            builder.kill()
        assert_survives(client, old)
        client.delete(lock_key("lrea"))  # stands in for its expiry

    assert_only(client, publish_new(client))


def test_of_two_builders_at_once_the_error_of_the_second_names_the_first(client, server):
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
