"""A rolling publish under a live service: every answer is that of the artifact that made the record."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from builder.errors import PublishError
from builder.publish.blue_green import publish
from builder.publish.cache import CacheClient, connect_cache
from builder.publish.generations import new_generation, read_pointer
from builder.publish.rolling import publish_in_place
from builder.publish.services import announcements
from models.contract.artifact import Artifact
from models.contract.generation import Generation
from models.contract.record import record_artifact
from tests.service.toy import AS_OF_S, SPEC, Toy
from tests.service.world import World, record_of

pytestmark = pytest.mark.anyio
NOW = datetime(2026, 1, 1, tzinfo=UTC)
ITEMS = ["i1", "i5", "i9"]
OLD, NEW = Toy(), Toy(seed=1)
USERS = {f"user {n}": [f"i{n % 30}", f"i{n % 7}"] for n in range(40)}


@pytest.fixture
def cache(world: World) -> Iterator[CacheClient]:
    with connect_cache(world.url) as client:
        yield client


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builder.publish.records.BATCH_RECORDS", 4)
    monkeypatch.setattr("builder.publish.rolling.LOOK_EVERY_S", 0.01)


def records(toy: Toy, artifact: Artifact) -> Iterator[tuple[str, bytes]]:
    for user, history in USERS.items():
        yield user, record_of(user, toy.state(history), artifact)


def generation_of(artifact: Artifact, num_users: int = len(USERS)) -> Generation:
    return new_generation("toy", artifact.artifact_id, num_users, AS_OF_S, "fp32", NOW)


def publish_old(cache: CacheClient, world: World) -> Generation:
    artifact = OLD.save(world.artifacts)
    return publish(cache, generation_of(artifact), records(OLD, artifact), SPEC).current


def roll(cache: CacheClient, artifact: Artifact, toy: Toy = NEW, **options) -> Generation:
    generation = generation_of(artifact)
    return publish_in_place(
        cache, generation, records(toy, artifact), SPEC, wait_s=10.0, **options
    ).current


def assert_right(answer, user: str, toys: dict[str, Toy]) -> None:
    """The scores are those of the named artifact, up to float32 rounding."""
    toy = toys[answer["artifact_id"]]
    state = toy.state(USERS.get(user, []))
    assert answer["scores"] == pytest.approx(toy.scores(state, ITEMS), abs=1e-6)


async def test_every_answer_comes_from_one_artifact_during_a_rolling_publish(world, cache):
    old = publish_old(cache, world)
    artifact = NEW.save(world.artifacts)
    toys = {old.artifact_id: OLD, artifact.artifact_id: NEW}
    answers: list[tuple[str, dict[str, Any]]] = []
    keys: list[int] = []
    async with world.service(poll_interval_s=0.01) as service:
        async with service.app.router.lifespan_context(service.app):
            loop = asyncio.get_running_loop()

            async def ask_all() -> None:
                for user in [*USERS, "nobody"]:
                    answers.append((user, await service.score(user, ITEMS)))

            def progress(_: int) -> None:  # between two batches, in the builder's thread
                keys.append(cache.dbsize())
                asyncio.run_coroutine_threadsafe(ask_all(), loop).result()

            new = await asyncio.to_thread(roll, cache, artifact, progress=progress)
            await service.follower.poll()
        last = [await service.score(user, ITEMS) for user in USERS]
    assert len(keys) == len(USERS) / 4
    assert max(keys) <= len(USERS) + 6  # pointer, models, default, lock, services, presence
    names = {old.artifact_id: old.name, artifact.artifact_id: new.name}
    for user, answer in answers:
        assert_right(answer, user, toys)
        assert answer["generation"] == names[answer["artifact_id"]]
        assert answer["state"]["source"] == ("miss" if user == "nobody" else "hit")
    by_artifact = {name: [u for u, a in answers if a["artifact_id"] == name] for name in names}
    assert min(map(len, by_artifact.values())) > len(USERS)
    strangers = {answer["artifact_id"] for user, answer in answers if user == "nobody"}
    assert strangers == {
        artifact.artifact_id
    }  # a user without a record is scored by the newest artifact
    assert {answer["artifact_id"] for answer in last} == {artifact.artifact_id}


async def test_a_service_that_cannot_load_the_new_artifact_keeps_every_record(world, cache):
    old = publish_old(cache, world)
    elsewhere = NEW.save(world.artifacts.parent / "not synchronised")
    generation, source = generation_of(elsewhere), records(NEW, elsewhere)
    publishing = asyncio.to_thread(publish_in_place, cache, generation, source, SPEC, wait_s=0.3)
    async with (
        world.service(poll_interval_s=0.01) as service,
        service.app.router.lifespan_context(service.app),
    ):
        with pytest.raises(PublishError, match="nothing is overwritten"):
            await publishing
        answers = {user: await service.score(user, ITEMS) for user in USERS}
    for user, answer in answers.items():
        assert answer["generation"] == old.name
        assert_right(answer, user, {old.artifact_id: OLD})


def mix(world: World, cache: CacheClient, num_new: int) -> Generation:
    """A builder that died after `num_new` users."""
    publish_old(cache, world)
    artifact = NEW.save(world.artifacts)

    def dying() -> Iterator[tuple[str, bytes]]:
        for number, record in enumerate(records(NEW, artifact)):
            if number == num_new:
                raise ZeroDivisionError
            yield record

    with pytest.raises(ZeroDivisionError):
        publish_in_place(cache, generation_of(artifact), dying(), SPEC, wait_s=0.0)
    pointer, _ = read_pointer(cache, "toy")
    assert pointer
    return pointer.current


async def test_a_service_started_during_a_rolling_publish_scores_each_record_with_its_artifact(
    world, cache
):
    mixed = mix(world, cache, 20)
    toys = {mixed.artifact_id: NEW, mixed.over[0].artifact_id: OLD}
    async with world.service() as service:
        answers = {user: await service.score(user, ITEMS) for user in USERS}
        one = await service.client.get("/v1/users/user 39")
    for user, answer in answers.items():
        raw = world.get(mixed.key(user))
        assert answer["artifact_id"] == record_artifact(raw)
        assert answer["state"]["source"] == "hit"
        assert_right(answer, user, toys)
    assert {answer["artifact_id"] for answer in answers.values()} == set(toys)
    assert one.json()["artifact_id"] == mixed.over[0].artifact_id
    assert one.json()["problem"] is None


async def test_a_record_of_an_unknown_or_missing_artifact_is_corrupt(world, cache):
    mixed = mix(world, cache, 20)
    third = Toy(seed=2).save(world.artifacts)
    world.put(mixed.key("user 1"), record_of("user 1", NEW.state([]), third))
    old_folder = world.artifacts / mixed.over[0].artifact_id
    old_folder.rename(world.artifacts / "gone")
    async with world.service() as service:
        answers = {
            user: await service.score(user, ITEMS) for user in ("user 1", "user 39", "user 2")
        }
    sources = [answer["state"]["source"] for answer in answers.values()]
    assert sources == ["corrupt", "corrupt", "hit"]
    for answer in answers.values():
        assert answer["artifact_id"] == mixed.artifact_id
    cold = pytest.approx(NEW.scores(NEW.state([]), ITEMS), abs=1e-6)
    assert answers["user 1"]["scores"] == answers["user 39"]["scores"] == cold


async def test_a_context_field_unknown_to_the_old_artifact_is_left_out(world, cache):
    without = Toy(context_names=("device",))
    artifact = without.save(world.artifacts)
    publish(cache, generation_of(artifact), records(without, artifact), SPEC)
    newer = NEW.save(world.artifacts)
    source = iter([*records(NEW, newer)][:20])
    with pytest.raises(PublishError, match="got 20 records"):
        publish_in_place(cache, generation_of(newer), source, SPEC, wait_s=0.0)
    context: dict[str, object] = {"hour": "night", "device": "app"}
    async with world.service() as service:
        old = await service.score("user 39", ITEMS, context=context)
        new = await service.score("user 1", ITEMS, context=context)
    expected = without.scores(without.state(USERS["user 39"]), ITEMS, context={"device": "app"})
    assert old["scores"] == pytest.approx(expected, abs=1e-6)
    expected = NEW.scores(NEW.state(USERS["user 1"]), ITEMS, context=context)
    assert new["scores"] == pytest.approx(expected, abs=1e-6)


async def test_a_service_announces_its_loaded_generations(world, cache):
    old = publish_old(cache, world)
    async with world.service():
        (announced,) = announcements(cache).values()
    assert announced.loaded == {"toy": old.name}


async def test_a_service_without_the_right_to_write_serves(world, cache):
    publish_old(cache, world)
    rules = ["on", ">sesame", "~*", "+@read", "+@connection"]
    cache.execute_command("ACL SETUSER", "reader", *rules)
    reading = World(world.url.replace("unix://", "unix://reader:sesame@"), world.artifacts)
    try:
        async with reading.service() as service:
            answer = await service.score("user 1", ITEMS)
    finally:
        cache.execute_command("ACL DELUSER", "reader")
    assert answer["state"]["source"] == "hit"
    assert announcements(cache) == {}
