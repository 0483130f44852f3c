"""The connection breaks before any one answer: the error names the cache, and whole builds go on serving."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from builder.publish import cache
from builder.publish.blue_green import publish
from builder.publish.cache import CacheClient, connect_cache
from builder.publish.capacity import load_of_spec, measured
from builder.publish.default_model import choose_default, read_default
from builder.publish.generations import read_pointer, rollback
from builder.publish.rolling import publish_in_place
from builder.publish.services import wait_until_served
from builder.publish.status import status
from models.contract.announcement import SERVICES_KEY, heartbeat_key
from models.contract.errors import CacheUnavailableError
from models.contract.generation import Pointer
from tests.builder.published import SPEC, assert_whole, generation_of, publish_new, records
from tests.builder.relay import Relay

NUM_USERS = 5


def publish_more(client: CacheClient) -> None:
    publish(client, generation_of(NUM_USERS), records(NUM_USERS), SPEC)


def roll(client: CacheClient) -> None:
    publish_in_place(client, generation_of(NUM_USERS), records(NUM_USERS), SPEC, wait_s=0.0)


def roll_back(client: CacheClient) -> None:
    rollback(client, "lrea")


def choose(client: CacheClient) -> None:
    choose_default(client, "lrea")


def wait(client: CacheClient) -> None:
    wait_until_served(client, "lrea", serving(client).current.name, limit_s=0.0)


def measure(client: CacheClient) -> None:
    load = load_of_spec("lrea", NUM_USERS, SPEC, 1, 9)
    measured(client, serving(client).current, load, SPEC)


def serving(client: CacheClient) -> Pointer:
    pointer, _ = read_pointer(client, "lrea")
    assert pointer
    return pointer


def prepare(client: CacheClient) -> None:
    """Two builds, what a killed builder left, a service that is alive and one that is not."""
    client.flushall()
    publish_new(client, NUM_USERS)
    publish_new(client, NUM_USERS)
    client.set(generation_of(1).key("user"), b"left")
    client.sadd(SERVICES_KEY, "alive", "dead")
    client.set(heartbeat_key("alive"), "{}")


@pytest.fixture
def relay(server: Path) -> Iterator[Relay]:
    folder = Path(tempfile.mkdtemp(prefix="ab", dir="/tmp"))  # unix socket paths must be short
    relay = Relay(folder, server / "valkey.sock")
    yield relay
    relay.close()
    shutil.rmtree(folder)


# The last answer of a publish is that to the release of the lock, which expires by itself.
@pytest.mark.parametrize(
    ("operation", "unneeded"),
    [
        (publish_more, 1), (roll, 1), (roll_back, 0), (choose, 0), (read_default, 0),
        (wait, 0), (status, 0), (measure, 0),
    ],
)  # fmt: skip
def test_an_operation_whose_connection_breaks_names_the_cache(
    client, relay, monkeypatch, operation: Callable[[CacheClient], object], unneeded: int
):
    monkeypatch.setattr(cache, "NUM_RETRIES", 0)
    errors: list[str] = []
    unnoticed = 0
    for number in count():
        prepare(client)
        with connect_cache(f"unix://{relay.path}") as broken:
            asked = count()
            relay.num_lost = 0
            relay.is_lost = lambda _, asked=asked, number=number: next(asked) == number
            try:
                operation(broken)
                unnoticed += relay.num_lost
            except CacheUnavailableError as error:
                errors.append(str(error))
        pointer = serving(client)
        assert pointer.previous
        assert_whole(client, pointer.current)
        assert_whole(client, pointer.previous)
        if not relay.num_lost:
            break
    assert errors
    assert all(error.startswith(f"cache unix://{relay.path}: ") for error in errors)
    assert unnoticed == unneeded
