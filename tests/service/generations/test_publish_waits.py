"""A publish waits until the running services say that they serve the generation, and names those that do not."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from builder.errors import NotServedError
from builder.publish.cache import CacheClient, connect_cache
from builder.publish.services import (
    Served,
    announcements,
    require_served,
    wait_until_served,
)
from models.contract.generation import MODELS_KEY, Generation, pointer_key
from service.generations.heartbeat import RETIRED_TTL_S
from tests.service.toy import Toy
from tests.service.world import Running, World

pytestmark = pytest.mark.anyio
OLD, NEW = Toy(seed=1), Toy(seed=2)
LONG_S, SHORT_S = 20.0, 0.3


@pytest.fixture
def cache(world: World) -> Iterator[CacheClient]:
    with connect_cache(world.url) as client:
        yield client


@asynccontextmanager
async def following(world: World, **settings: Any) -> AsyncIterator[Running]:
    """A service that polls by itself."""
    async with (
        world.service(poll_interval_s=0.02, **settings) as service,
        service.app.router.lifespan_context(service.app),
    ):
        yield service


async def look(client: CacheClient, generation: Generation, limit_s: float = LONG_S) -> Served:
    return await asyncio.to_thread(
        wait_until_served, client, generation.model, generation.name, limit_s
    )


async def test_two_services_serve_it(world: World, cache: CacheClient):
    world.publish(OLD)
    async with following(world) as one, following(world) as other:
        new = world.publish(NEW)
        served = await look(cache, new)
        assert one.selection.serving["toy"].generation == new
        assert other.selection.serving["toy"].generation == new
    assert (len(served.serving), served.missing, served.replaced_by) == (2, {}, None)


async def test_the_first_generation_of_a_model_is_waited_for(world: World, cache: CacheClient):
    world.publish(OLD)
    async with following(world):
        await look(cache, world.publish(OLD))
        served = await look(cache, world.publish(NEW, "another"))
    assert (len(served.serving), served.missing) == (1, {})


async def test_a_service_that_cannot_load_it_is_named_with_the_reason(
    world: World, cache: CacheClient
):
    old = world.publish(OLD)
    async with following(world) as service:
        new = world.publish(NEW, score=b"no graph")
        served = await look(cache, new, 3.0)
        (name,) = announcements(cache)
        with pytest.raises(NotServedError) as caught:
            require_served(served, "toy", new.name, 3.0)
        assert service.selection.serving["toy"].generation == old
    assert served.serving == []
    assert served.missing.keys() == {name} == caught.value.missing.keys()
    assert "score.onnx" in served.missing[name]
    assert f"{name}: artifact: " in str(caught.value)
    assert f"{new.name} is published, and after 3 s 1 running service(s)" in str(caught.value)


async def test_a_hostile_pointer_of_this_model_names_the_service(world: World, cache: CacheClient):
    world.publish(OLD)
    async with following(world) as service:
        new = world.publish(NEW)
        await look(cache, new)
        await service.follower.unload("toy", "just now")
        await service.follower.load("toy")
        good = world.get(pointer_key("toy"))
        world.put(pointer_key("toy"), b"[" * 100_000)
        while service.selection.failure("toy") is None:
            await asyncio.sleep(0.01)
        world.put(pointer_key("toy"), good)
        served = await look(cache, new)
    assert served.missing == {}


async def test_without_services_nothing_is_waited_for(world: World, cache: CacheClient):
    assert await look(cache, world.publish(OLD)) == Served([], {})


async def test_an_unloaded_model_is_not_waited_for(world: World, cache: CacheClient):
    world.publish(OLD)
    async with following(world) as service:
        await service.follower.unload("toy", "just now")
        served = await look(cache, world.publish(NEW))
    assert (served.serving, served.missing) == ([], {})


async def test_a_newer_publish_ends_the_wait(world: World, cache: CacheClient):
    world.publish(OLD)
    async with following(world):
        first = world.publish(NEW, score=b"no graph")
        second = world.publish(OLD)
        served = await look(cache, first)
        require_served(served, "toy", first.name, LONG_S)
    assert served.replaced_by == second.name


async def test_a_service_that_has_ended_is_not_waited_for(world: World, cache: CacheClient):
    world.publish(OLD)
    async with following(world):
        await look(cache, world.publish(OLD))
    await asyncio.sleep(RETIRED_TTL_S + 0.2)
    assert await look(cache, world.publish(NEW), SHORT_S) == Served([], {})
    assert announcements(cache) == {}


async def test_a_service_that_has_not_looked_yet_is_waited_for(world: World, cache: CacheClient):
    world.publish(OLD)
    async with world.service() as service:  # it polls only when the test says so
        new = world.publish(NEW, "another")
        served = await look(cache, new, SHORT_S)
        assert list(served.missing.values()) == ["has not seen it yet"]
        await service.follower.poll()
        assert (await look(cache, new, SHORT_S)).missing == {}
        assert cache.scard(MODELS_KEY) == 2
