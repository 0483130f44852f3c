"""Events on a server and on a cluster: few round trips, and nothing of a user who is forgotten meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import pytest
from redis import Redis
from redis.cluster import RedisCluster

from models.live.event import Event
from models.live.keys import FORGOTTEN_KEY, IN_KEY, TOUCHED_KEY, log_key, tombstone
from service.errors import UserForgottenError
from service.store.cluster import ClusterStore
from service.store.event_log import EventLog
from service.store.redis import Keyed, RedisStore
from tests.cluster import Cluster, running_cluster
from tests.valkey import running_server

pytestmark = pytest.mark.anyio
MANY = [Event(f"e{at}", f"u{at}", f"i{at}", 1000 + at) for at in range(1000)]
Store = RedisStore | ClusterStore


class Interrupted:
    """A cache that does something before one of its calls: what another process may do at that moment."""

    def __init__(self, store: Store, call: int, action: Callable[[], object]) -> None:
        self._store, self._left, self._action = store, call, action

    async def execute(self, commands: Sequence[Keyed]) -> list[Any]:
        if self._left == 0:
            self._action()
        self._left -= 1
        return await self._store.execute(commands)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with running_server() as url:
        yield url


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running_cluster() as cluster:
        yield cluster


@pytest.fixture(params=["server", "cluster"])
def url(request: pytest.FixtureRequest) -> str:
    if request.param == "server":
        return str(request.getfixturevalue("server"))
    return str(request.getfixturevalue("cluster").url)


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    store = ClusterStore(url, 2.0) if "cluster" in url else RedisStore(url, 2.0)
    yield store
    await store.close()


@pytest.fixture
def client(url: str) -> Iterator[Any]:
    kind: Any = RedisCluster if "cluster" in url else Redis
    client = kind.from_url(url.replace("redis+cluster", "redis"))
    client.flushall()
    yield client
    client.close()


async def test_many_events_take_few_round_trips(store: Store, client: Any, url: str):
    before = reads(client)
    accepted = await EventLog(store, 10_000).append(MANY)
    assert reads(client) - before < 150  # 3,001 commands
    assert accepted.accepted - accepted.duplicates == client.xlen(IN_KEY) == 1000
    assert client.zcard(TOUCHED_KEY) == 1000
    assert all(client.hlen(log_key(event.user_id)) == 2 for event in MANY[::97])
    entries = client.xrange(IN_KEY)
    assert [Event.from_bytes(fields[b"e"]) for _, fields in entries] == MANY
    assert accepted.position == entries[-1][0].decode()
    again = await EventLog(store, 10_000).append(MANY[:3])
    assert again.duplicates == 3


def reads(client: Any) -> int:
    """How often the servers read from a connection."""
    info = client.info("stats")
    nodes = [info] if "total_reads_processed" in info else info.values()
    return sum(int(node["total_reads_processed"]) for node in nodes)


async def test_long_lists_leave_the_event_loop_to_others(store: Store, client: Any):
    del client
    turns, is_done = 0, False

    async def others() -> None:
        nonlocal turns
        while not is_done:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(others())
    await EventLog(store, 10_000).append(MANY)
    is_done = True
    await other
    assert turns >= 30


@pytest.mark.parametrize("call", [1, 2, 3])
async def test_nothing_stays_of_a_user_who_is_forgotten_meanwhile(
    store: Store, client: Any, call: int
):
    bury = Interrupted(store, call, lambda: client.hset(FORGOTTEN_KEY, tombstone("u1"), "1"))
    with pytest.raises(UserForgottenError, match=r"events\[1\]\.user_id"):
        await EventLog(bury, 10_000).append(MANY[:3])
    assert not client.exists(log_key("u1"))
    assert client.zrange(TOUCHED_KEY, 0, -1) == [b"u0", b"u2"]
    kept = [Event.from_bytes(fields[b"e"]).user_id for _, fields in client.xrange(IN_KEY)]
    assert kept == ["u0", "u2"]


async def test_a_log_whose_slot_moves_is_written_where_it_is(cluster: Cluster):
    cluster.empty()
    key = log_key("u1")
    source = cluster.node_of(key)
    target = next(node for node in cluster.nodes if node is not source)
    slot = source.ask("CLUSTER KEYSLOT", key)
    names = {node: node.ask("CLUSTER MYID") for node in cluster.nodes}
    store = ClusterStore(cluster.url, 2.0)
    log = EventLog(store, 10_000)
    await log.append(MANY[:1])
    target.ask("CLUSTER SETSLOT", slot, "IMPORTING", names[source])
    source.ask("CLUSTER SETSLOT", slot, "MIGRATING", names[target])
    await log.append(MANY[1:2])  # ASK: the key is at neither
    for node in cluster.nodes:
        node.ask("CLUSTER SETSLOT", slot, "NODE", names[target])
    await log.append([Event("other", "u1", "i1", 1000)])  # MOVED
    await store.close()
    try:
        assert set(target.ask("HKEYS", key)) == {b"", b"e1", b"other"}
        assert int(target.ask("HGET", key, "")) == 2
    finally:
        target.ask("DEL", key)
        for node in cluster.nodes:
            node.ask("CLUSTER SETSLOT", slot, "NODE", names[source])
