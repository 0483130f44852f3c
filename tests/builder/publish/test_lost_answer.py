"""The flip happens, and the connection breaks before the builder reads the answer."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.publish import cache
from builder.publish.blue_green import publish
from builder.publish.cache import connect_cache
from builder.publish.generations import read_pointer
from models.contract.errors import CacheUnavailableError
from models.contract.generation import Pointer, lock_key
from tests.builder.published import (
    SPEC,
    assert_only,
    assert_whole,
    generation_of,
    publish_new,
    records,
)
from tests.builder.relay import Relay

FLIP_MARK = b"flags=allow-oom"
"""Only the script that flips the pointer has it."""


@pytest.fixture
def relay(server: Path) -> Iterator[Relay]:
    folder = Path(tempfile.mkdtemp(prefix="ab", dir="/tmp"))  # unix socket paths must be short
    relay = Relay(folder, server / "valkey.sock")
    relay.is_lost = lambda request: FLIP_MARK in request
    yield relay
    relay.close()
    shutil.rmtree(folder)


def test_a_flip_whose_answer_is_lost_keeps_the_records_that_serve(client, relay, monkeypatch):
    old = publish_new(client)
    generation = generation_of(30)
    monkeypatch.setattr(cache, "NUM_RETRIES", 0)

    with (
        connect_cache(f"unix://{relay.path}") as broken,
        pytest.raises(CacheUnavailableError, match=str(relay.path)),
    ):
        publish(broken, generation, records(30), SPEC)

    assert relay.num_lost == 1
    assert read_pointer(client, "lrea")[0] == Pointer(generation, old.current)
    assert_whole(client, generation)
    assert_whole(client, old.current)
    client.delete(lock_key("lrea"))  # in case its release was lost too
    assert_only(client, publish_new(client))


def test_a_flip_whose_answer_is_lost_is_sent_again(client, relay):
    old = publish_new(client)
    generation = generation_of(30)

    with connect_cache(f"unix://{relay.path}") as broken:
        pointer = publish(broken, generation, records(30), SPEC)

    assert (relay.num_lost, pointer) == (1, Pointer(generation, old.current))
    assert_only(client, pointer)
