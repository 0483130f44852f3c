"""The default model stays what it was until someone says otherwise, in every service and across restarts."""

from collections.abc import Iterator

import pytest

from builder.errors import PublishError
from builder.publish.cache import CacheClient, connect_cache
from builder.publish.default_model import choose_default, read_default
from builder.publish.generations import flip_pointer, read_pointer
from builder.publish.services import announcements
from models.contract.errors import CacheUnavailableError
from models.contract.generation import (
    DEFAULT_KEY,
    MODELS_KEY,
    Generation,
    Pointer,
    pointer_key,
)
from tests.service.toy import Toy
from tests.service.world import HISTORIES, Running, World, record_of

pytestmark = pytest.mark.anyio
BODY = {"user_id": "ann", "candidates": ["i1"]}


@pytest.fixture
def cache(world: World) -> Iterator[CacheClient]:
    with connect_cache(world.url) as client:
        yield client


def publish(world: World, cache: CacheClient, model: str, seed: int = 1) -> Generation:
    """Publish as the builder does: with its flip of the pointer."""
    toy = Toy(seed=seed)
    artifact = toy.save(world.artifacts)
    generation = world.new_generation(model, artifact, len(HISTORIES))
    for user, history in HISTORIES.items():
        cache.set(generation.key(user), record_of(user, toy.state(history), artifact))
    _, old = read_pointer(cache, model)
    flip_pointer(cache, old, Pointer(generation, None))
    return generation


async def answering(service: Running) -> str:
    await service.follower.poll()
    return str((await service.score())["model"])


async def test_another_model_never_becomes_the_default_by_its_name(
    world: World, cache: CacheClient
):
    publish(world, cache, "sim")
    async with world.service() as service:
        assert await answering(service) == "sim"
        for model in ("din", "lrea", "zeta"):  # lrea: the one preferred where none was chosen
            publish(world, cache, model)
            assert await answering(service) == "sim"
        publish(world, cache, "sim", seed=2)
        assert await answering(service) == "sim"
    async with world.service() as restarted:
        assert (await restarted.score())["model"] == "sim"
        listed = (await restarted.client.get("/v1/models")).json()
    assert listed["default"] == "sim"
    assert [m["name"] for m in listed["models"] if m["default"]] == ["sim"]
    assert read_default(cache) == "sim"


@pytest.mark.parametrize(
    ("published", "expected"), [(["sim", "din"], "din"), (["sim", "lrea"], "lrea"), ([], "alpha")]
)
async def test_a_cache_of_an_older_builder_keeps_the_default_that_it_had(
    world: World, cache: CacheClient, published: list[str], expected: str
):
    for model in published:
        world.publish(Toy(), model)  # without a default, as older builders do
    cache.sadd(MODELS_KEY, b"", b"A B", b"!")  # no names of models
    async with world.service() as service:
        publish(world, cache, "alpha")
        assert await answering(service) == expected
    assert read_default(cache) == expected


async def test_a_chosen_default_is_followed_by_all_services(world: World, cache: CacheClient):
    publish(world, cache, "sim")
    publish(world, cache, "din")
    async with world.service() as one, world.service() as other:
        assert choose_default(cache, "din") == "sim"
        assert [await answering(one), await answering(other)] == ["din", "din"]
        with pytest.raises(PublishError, match="got 'dim', expected one of: din, sim; did you"):
            choose_default(cache, "dim")
        assert [await answering(one), await answering(other)] == ["din", "din"]


async def test_only_a_published_model_becomes_the_default(world: World, cache: CacheClient):
    with pytest.raises(PublishError, match=f"expected one of: none, {world.url} has no published"):
        choose_default(cache, "sim")
    publish(world, cache, "sim")
    publish(world, cache, "din")
    cache.delete(pointer_key("din"))  # its name is still on the list of models
    with pytest.raises(PublishError, match="got 'din', expected one of"):
        choose_default(cache, "din")
    assert read_default(cache) == "sim"


def test_a_default_that_may_not_be_read_is_an_error(world: World, cache: CacheClient):
    cache.execute_command("ACL SETUSER blind on nopass ~* +@all -getrange")
    url = f"unix://blind:any@{world.url.removeprefix('unix://')}"
    try:
        with (
            connect_cache(url) as blind,
            pytest.raises(CacheUnavailableError, match=rf"cache {world.url}: .*getrange"),
        ):
            read_default(blind)
    finally:
        cache.execute_command("ACL DELUSER blind")


async def test_a_setting_overrides_it_for_one_service_which_says_so(
    world: World, cache: CacheClient
):
    publish(world, cache, "sim")
    publish(world, cache, "din")
    async with world.service(default_model="din") as service:
        assert await answering(service) == "din"
        (announced,) = announcements(cache).values()
    assert announced.default == "din"
    assert read_default(cache) == "sim"


async def test_after_the_default_was_removed_requests_must_name_a_model(
    world: World, cache: CacheClient
):
    publish(world, cache, "sim")
    publish(world, cache, "din")
    cache.srem(MODELS_KEY, "sim")
    cache.delete(pointer_key("sim"))
    async with world.service() as service:  # a restart: nothing of the removed model is in memory
        refused = await service.client.post("/v1/score", json=BODY)
        named = await service.score(model="din")
        ready = await service.ready()
        listed = (await service.client.get("/v1/models")).json()
        choose_default(cache, "din")
        assert await answering(service) == "din"
    assert refused.status_code == 503
    error = refused.json()["error"]
    assert "no generation of sim is published yet; it is the default model" in error
    assert "name one of din in the request" in error
    assert "absorb default MODEL" in error
    assert (named["model"], ready.status_code, listed["default"]) == ("din", 200, "sim")


async def test_a_removed_default_goes_on_serving_from_memory(world: World, cache: CacheClient):
    publish(world, cache, "sim")
    publish(world, cache, "din")
    async with world.service() as service:
        cache.flushall()
        assert await answering(service) == "sim"


async def test_a_default_that_does_not_load_keeps_a_new_process_from_being_ready(
    world: World, cache: CacheClient
):
    publish(world, cache, "sim")
    publish(world, cache, "din")
    cache.set(pointer_key("sim"), b"{")
    async with world.service() as service:
        ready = await service.ready()
        refused = await service.client.post("/v1/score", json=BODY)
    assert (ready.status_code, refused.status_code) == (503, 503)
    assert "cannot be read" in refused.json()["error"]
    assert "it is the default model" in refused.json()["error"]


async def test_an_unloaded_default_is_not_replaced(world: World, cache: CacheClient):
    publish(world, cache, "sim")
    publish(world, cache, "din")
    async with world.service() as service:
        await service.follower.unload("sim", "just now")
        refused = await service.client.post("/v1/score", json=BODY)
        ready = await service.ready()
    assert (refused.status_code, ready.status_code) == (503, 200)
    assert (
        "model 'sim' was unloaded just now; POST /v2/repository/models/sim/load"
        in refused.json()["error"]
    )


@pytest.mark.parametrize("raw", [b"", b"A B", b"\xff", b"x" * 10_000_000, b"../up", None])
async def test_a_default_that_is_no_name_changes_nothing(
    world: World, cache: CacheClient, raw: bytes | None
):
    publish(world, cache, "sim")
    publish(world, cache, "din")
    async with world.service() as service:
        cache.delete(DEFAULT_KEY)
        if raw is None:
            cache.rpush(DEFAULT_KEY, "no string")
        else:
            cache.set(DEFAULT_KEY, raw)
        new = publish(world, cache, "zeta")
        assert await answering(service) == "sim"
        assert service.selection.serving["zeta"].generation == new
    assert read_default(cache) is None
