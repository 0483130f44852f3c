"""A real cluster of three nodes: published to by the builder, served, with nodes that are killed or hang."""

import asyncio
from collections.abc import Awaitable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from builder.publish.blue_green import publish
from builder.publish.cache import CacheClient, connect_cache
from builder.publish.generations import count_all, new_generation, rollback
from builder.publish.rolling import publish_in_place
from builder.publish.services import announcements
from builder.publish.status import status
from models.contract.errors import CacheUnavailableError
from models.contract.generation import Generation
from models.live.keys import CHANGED_KEY
from service.settings import Settings
from service.state.changes import ChangeReader
from service.store.cluster import ClusterStore
from service.store.redis import ask
from service.tools.published import read_published
from tests.cluster import Cluster, Node, running_cluster
from tests.service.toy import AS_OF_S, SPEC, Array, Toy
from tests.service.world import Running, World, record_of, until

pytestmark = pytest.mark.anyio
NOW = datetime(2026, 1, 1, tzinfo=UTC)
ITEMS = ["i1", "i5"]
TOY, OTHER = Toy(), Toy(seed=1)
USERS = {f"user {n}": [f"i{n % 30}", f"i{n % 7}"] for n in range(24)}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running_cluster() as cluster:
        yield cluster


@pytest.fixture
def client(cluster: Cluster) -> Iterator[CacheClient]:
    cluster.empty()
    with connect_cache(cluster.url) as client:
        yield client


@pytest.fixture
def world(cluster: Cluster, tmp_path: Path) -> World:
    return World(cluster.url, tmp_path / "artifacts")


def states_of(toy: Toy) -> Mapping[str, dict[str, Array]]:
    return {user: toy.state(history) for user, history in USERS.items()}


def publish_toy(client: CacheClient, world: World, toy: Toy = TOY) -> Generation:
    artifact = toy.save(world.artifacts)
    generation = new_generation("toy", artifact.artifact_id, len(USERS), AS_OF_S, "fp32", NOW)
    records = ((user, record_of(user, state, artifact)) for user, state in states_of(toy).items())
    return publish(client, generation, records, SPEC).current


async def sources(service: Running, users: Iterable[str] = tuple(USERS)) -> dict[str, str]:
    """User -> source of its state; checks the scores of every answer."""
    found = {}
    for user in users:
        history = USERS[user]
        answer = await service.score(user, ITEMS)
        found[user] = answer["state"]["source"]
        state = TOY.state(history if found[user] == "hit" else [])
        assert answer["scores"] == pytest.approx(TOY.scores(state, ITEMS), abs=1e-6)
        if found[user] != "hit":
            assert answer["degraded_reason"].startswith("scored from the cold-start state: cache")
    return found


def expected(generation: Generation, gone: Node) -> dict[str, str]:
    held = {user: gone.holds(generation.key(user)) for user in USERS}
    return {user: "unavailable" if is_gone else "hit" for user, is_gone in held.items()}


def node_without_pointers(cluster: Cluster) -> Node:
    control = cluster.node_of("{control}")
    return next(node for node in cluster.nodes if node is not control)


async def test_published_records_are_served_from_every_node(client, world, cluster):
    generation = publish_toy(client, world)
    (model_status,) = status(client)
    async with world.service() as service:
        found = await sources(service)
        stranger = await service.score("nobody", ITEMS)
    held = [node.ask("DBSIZE") for node in cluster.nodes]
    assert set(found.values()) == {"hit"}
    assert stranger["state"]["source"] == "miss"
    assert sum(held) == len(USERS) + 5  # pointer, models, default, services, presence
    assert min(held) > 2
    assert model_status.records == {generation.name: len(USERS)}


async def test_a_service_whose_first_look_had_no_answer_in_time_is_ready(
    client, world, cluster, monkeypatch
):
    """A machine whose cores are all busy must not let the tests of this file fail."""
    publish_toy(client, world)
    limits = iter([1e-9])

    async def hurried(answer: Awaitable[Any], timeout_s: float, name: str) -> Any:
        return await ask(answer, next(limits, timeout_s), name)

    monkeypatch.setattr("service.store.cluster.ask", hurried)
    async with world.service() as service:
        assert set((await sources(service)).values()) == {"hit"}


async def test_load_and_demo_find_users_on_every_node(client, world, cluster):
    generation = publish_toy(client, world)
    settings = Settings(cache_url=cluster.url, artifact_dir=world.artifacts)
    published = await asyncio.to_thread(read_published, settings, None, 1000)
    assert (published.generation, set(published.users)) == (generation, set(USERS))


async def test_a_rollback_is_followed(client, world):
    first = publish_toy(client, world)
    second = publish_toy(client, world, OTHER)
    async with world.service() as service:
        assert (await service.score("user 1", ITEMS))["generation"] == second.name
        rollback(client, "toy")
        await service.follower.poll()
        assert (await service.score("user 1", ITEMS))["generation"] == first.name
        assert set((await sources(service)).values()) == {"hit"}


async def test_a_killed_node_affects_only_its_own_users_until_it_is_back(client, world, cluster):
    generation = publish_toy(client, world)
    gone = node_without_pointers(cluster)
    async with world.service(host_cache_bytes=0) as service:
        await sources(service)
        gone.kill()
        try:
            down = [await sources(service) for _ in range(2)]
            await service.follower.poll()
            ready = await service.client.get("/health/ready")
            reason = (await service.score(_a_user(generation, gone), ITEMS))["degraded_reason"]
        finally:
            await asyncio.to_thread(cluster.restart, gone)
        back = await sources(service)
    assert down == [expected(generation, gone)] * 2
    assert ready.status_code == 200
    assert f"node {gone.name}" in reason
    assert set(back.values()) == {"hit"}


async def test_a_hanging_node_delays_only_its_own_users_up_to_the_limit(client, world, cluster):
    generation = publish_toy(client, world)
    gone = node_without_pointers(cluster)
    async with world.service(cache_timeout_ms=150, host_cache_bytes=0) as service:
        await sources(service)
        with gone.stopped():
            answers = {user: await service.score(user, ITEMS) for user in USERS}
        while "unavailable" in (await sources(service)).values():
            await asyncio.sleep(0.01)
    found = {user: answer["state"]["source"] for user, answer in answers.items()}
    assert found == expected(generation, gone)
    reason = answers[_a_user(generation, gone)]["degraded_reason"]
    assert "no answer in 150 ms" in reason


def _a_user(generation: Generation, node: Node) -> str:
    return next(user for user in USERS if node.holds(generation.key(user)))


async def test_a_slot_that_moves_is_followed(client, world, cluster):
    """Importing and migrating (ASK), then moved for good (MOVED), then back."""
    generation = publish_toy(client, world)
    source = node_without_pointers(cluster)
    user = _a_user(generation, source)
    key = generation.key(user)
    target = next(node for node in cluster.nodes if node is not source)
    slot = client.keyslot(key)
    names = {node: node.ask("CLUSTER MYID") for node in cluster.nodes}
    replies = []
    async with world.service() as service:
        replies.append(await service.score(user, ITEMS))
        target.ask("CLUSTER SETSLOT", slot, "IMPORTING", names[source])
        source.ask("CLUSTER SETSLOT", slot, "MIGRATING", names[target])
        source.ask("MIGRATE", "127.0.0.1", target.port, key, 0, 5000)
        replies.append(await service.score(user, ITEMS))
        _assign(cluster, slot, names[target])
        replies += [await service.score(user, ITEMS) for _ in range(3)]
        target.ask("CLUSTER SETSLOT", slot, "MIGRATING", names[source])
        source.ask("CLUSTER SETSLOT", slot, "IMPORTING", names[target])
        target.ask("MIGRATE", "127.0.0.1", source.port, key, 0, 5000)
        _assign(cluster, slot, names[source])
        replies.append(await service.score(user, ITEMS))
    assert {answer["state"]["source"] for answer in replies} == {"hit"}


def _assign(cluster: Cluster, slot: int, owner: object) -> None:
    for node in cluster.nodes:
        node.ask("CLUSTER SETSLOT", slot, "NODE", owner)


async def test_an_unreachable_cluster_raises_cache_unavailable():
    store = ClusterStore("redis+cluster://127.0.0.1:1", 2.0)
    with pytest.raises(
        CacheUnavailableError, match=r"redis\+cluster://127.0.0.1:1.*slots are unknown"
    ):
        await store.read("key")
    await store.close()


async def test_a_wrong_password_is_reported_without_showing_it(cluster: Cluster):
    right, wrong = (
        ClusterStore(cluster.url.replace("//", f"//:{word}@"), 2.0) for word in ("sesame", "barley")
    )
    for node in cluster.nodes:
        node.ask("CONFIG SET", "requirepass", "sesame")
    try:
        assert await right.read("key") is None
        with pytest.raises(CacheUnavailableError) as caught:
            await wrong.read("key")
    finally:
        for node in cluster.nodes:
            node.ask("CONFIG SET", "requirepass", "", password="sesame")
        await right.close()
        await wrong.close()
    assert "barley" not in str(caught.value)
    assert "invalid" in str(caught.value)


async def test_records_are_overwritten_in_place_on_every_node(client, world, cluster):
    old = publish_toy(client, world, OTHER)
    artifact = TOY.save(world.artifacts)
    stayed = list(USERS)[2:]
    generation = new_generation("toy", artifact.artifact_id, len(stayed), AS_OF_S, "fp32", NOW)
    records = ((user, record_of(user, TOY.state(USERS[user]), artifact)) for user in stayed)
    async with world.service(poll_interval_s=0.05) as service:
        async with service.app.router.lifespan_context(service.app):
            new = await asyncio.to_thread(
                publish_in_place, client, generation, records, SPEC, wait_s=10.0
            )
            found = await sources(service, stayed)
        assert len(announcements(client)) == 1
    assert set(found.values()) == {"hit"}
    assert new.current.place == old.name
    assert count_all(client)["toy"] == {old.name: len(stayed)}


def has_dropped(changes: ChangeReader, number: int) -> bool:
    return changes.results["dropped"] == number


async def test_changed_records_leave_memory_also_after_the_streams_node_was_lost(
    client, world, cluster
):
    generation = publish_toy(client, world)
    gone = cluster.node_of(CHANGED_KEY)
    kept = next(user for user in USERS if not gone.holds(generation.key(user)))
    async with world.service() as service:
        changes = service.dependencies.tiers.changes
        running = asyncio.create_task(changes.run())
        await until(lambda: changes.is_following)
        for number in (1, 2):
            await service.score(kept, ITEMS)
            state = TOY.state([f"i{number}"] * 3)
            artifact = service.selection.pick("toy").artifact
            client.set(generation.key(kept), record_of(kept, state, artifact))
            fields = {"m": "toy", "p": generation.place, "u": kept}
            gone.ask("XADD", CHANGED_KEY, "*", *(part for pair in fields.items() for part in pair))
            await until(partial(has_dropped, changes, number))
            answer = await service.score(kept, ITEMS, recent=[])
            assert answer["scores"] == pytest.approx(TOY.scores(state, ITEMS), abs=1e-6)
            if number == 1:
                gone.kill()
                await until(lambda: not changes.is_following)
                await asyncio.to_thread(cluster.restart, gone)
                await until(lambda: changes.is_following)
                assert changes.num_gaps >= 1
        running.cancel()
