"""Forgetting in a cluster of three nodes: keys and streams of a user are spread over all of them."""

from collections.abc import Iterator

import pytest
from redis import Redis, RedisCluster

from models.live.forget import forget_in_cache
from models.live.keys import FORGOTTEN_KEY, GROUP, IN_KEY, log_key, tombstone
from tests.cluster import Cluster, running_cluster
from tests.models.live.test_forget import GENERATIONS, LONGER, OTHER, USER, fill


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with running_cluster() as cluster:
        yield cluster


def every_byte(cluster: Cluster) -> bytes:
    """Names and bytes of all keys of all nodes, and their logs of slow commands."""
    found = []
    for node in cluster.nodes:
        with Redis(port=node.port) as client:
            client.config_set("rdbcompression", "no")  # DUMP would hide an id
            for key in client.scan_iter():
                found += [key, client.dump(key) or b""]
            found.append(str(client.slowlog_get(-1)).encode())
    return b"\n".join(found)


def test_no_byte_of_any_node_names_the_user_and_nothing_of_others_is_gone(cluster: Cluster):
    with RedisCluster(host="127.0.0.1", port=cluster.nodes[0].port) as client:
        client.xgroup_create(IN_KEY, GROUP, "0", mkstream=True)
        for user in (LONGER, USER, OTHER):
            fill(client, user)
        client.xreadgroup(GROUP, "a worker", {IN_KEY: ">"}, count=7)
        named = [generation.key(USER) for generation in GENERATIONS] + [log_key(USER), IN_KEY]
        assert len({cluster.node_of(key).port for key in named}) == 3
        assert USER.encode() in every_byte(cluster).replace(LONGER.encode(), b"")

        removed = forget_in_cache(client, USER)

        assert removed.records == removed.histories == {(g.model, g.place): 1 for g in GENERATIONS}
        assert (removed.live_events, removed.touched, removed.unclean) == (5, True, [])
        left = every_byte(cluster)
        for name in (LONGER, OTHER):
            assert client.hlen(log_key(name)) == 6
            assert all(client.exists(generation.key(name)) for generation in GENERATIONS)
            left = left.replace(name.encode(), b"")
        assert USER.encode() not in left
        assert client.hexists(FORGOTTEN_KEY, tombstone(USER))
        assert forget_in_cache(client, USER).is_nothing
